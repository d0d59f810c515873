"""What the table maintenance logs while the database fails: one line for each cause, and one at the end."""

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import psycopg
import pytest
from opentelemetry.trace import NoOpTracer

from common.faults import Faults
from services.server.store import DatabaseUnavailable, Store
from services.server.table_maintenance import TableMaintenance
from tests.unit.waiting import eventually

ATTEMPTS = 5  # with each error


class BusyConnection:
    """A connection of a database where another replica does the maintenance."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Do nothing."""
        yield

    def execute(self, *_: object) -> "BusyConnection":
        """Return a cursor without rows."""
        return self

    def fetchone(self) -> None:
        """Return nothing: the lock is not free."""


class FailingStore:
    """Raises each of some errors a few times, then yields a connection."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = [error for error in errors for _ in range(ATTEMPTS)]
        self.works = 0

    @contextmanager
    def connection(self) -> Iterator[Any]:
        """Raise, or yield the connection."""
        if self._errors:
            raise self._errors.pop(0)
        yield BusyConnection()
        self.works += 1


def test_an_outage_is_a_line_for_each_cause_and_one_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    """An outage may last for hours, and an error of any kind does not end the thread."""
    unavailable = DatabaseUnavailable("the database is unavailable")
    unavailable.__cause__ = psycopg.OperationalError("connection\n\trefused")
    store = FailingStore(unavailable, ValueError("injected"))
    faults = Faults({}, random.Random(1))  # noqa: S311 - not for secrets
    maintenance = TableMaintenance(cast(Store, store), NoOpTracer(), rows=1, wipe_after_ms=20, faults=faults)
    with caplog.at_level(logging.INFO):
        maintenance.start()
        eventually(lambda: store.works >= ATTEMPTS, "attempts without an error")
        maintenance.close()
    lines = [(record.msg, cast(Any, record).fields.get("error")) for record in caplog.records]
    assert lines == [
        ("maintenance postponed", "the database is unavailable: connection refused"),
        ("maintenance failed", "injected"),
        ("maintenance resumed", None),
    ]
