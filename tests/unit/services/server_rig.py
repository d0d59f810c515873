"""Run the server's Flask application with a store in memory and record its telemetry."""

import os
import random
from types import SimpleNamespace
from typing import cast

from flask.testing import FlaskClient
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import Sampler

from common.core.env import Env
from common.faults import NULL_NAME, Faults
from common.telemetry.settings import BOTH_SEMCONVS, SEMCONV_VARIABLE
from common.telemetry.setup import Telemetry
from services.server.app import create_app
from services.server.config import load
from services.server.store import DatabaseUnavailable, DuplicateName, NullNameRejected, Store
from services.server.table_maintenance import TableMaintenance
from tests.unit.services.recorded import Recorded, attributes


class FakeStore:
    """Names of beasts in memory, newest first; with `is_down`, every call fails."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {}
        self.is_down = False

    def page(self, table: str, limit: int, before: int | None) -> list[tuple[int, str]]:
        """Return a page, as Store does."""
        self._check()
        rows = list(enumerate(self.names.get(table, []), start=1))[::-1]
        return [row for row in rows if before is None or row[0] < before][:limit]

    def add(self, table: str, name: str | None) -> None:
        """Add a name, as Store does."""
        self._check()
        if name is None:
            raise NullNameRejected("null value in column name")
        if name in self.names.setdefault(table, []):
            raise DuplicateName
        self.names[table].append(name)

    def remove(self, table: str, name: str) -> None:
        """Delete a name, as Store does."""
        self._check()
        self.names[table] = [other for other in self.names.get(table, []) if other != name]

    def _check(self) -> None:
        if self.is_down:
            raise DatabaseUnavailable("the database is unavailable")


class Rig:
    """The application under test; `settings` are environment variables."""

    def __init__(
        self, settings: dict[str, str] | None = None, null_name: float = 0, sampler: Sampler | None = None
    ) -> None:
        config = load(Env(settings or {}))
        # The stock instrumentation reads the variable here.
        os.environ[SEMCONV_VARIABLE] = (settings or {}).get(SEMCONV_VARIABLE) or BOTH_SEMCONVS
        self.telemetry, self.store = Recorded(sampler), FakeStore()
        self.maintenance = SimpleNamespace(is_recreating=False, ready=True)
        app = create_app(
            config,
            cast(Telemetry, self.telemetry),
            cast(Store, self.store),
            cast(TableMaintenance, self.maintenance),
            Faults({NULL_NAME.name: null_name}, random.Random(1)),  # noqa: S311 - not for secrets
            meter=self.telemetry.meter,
        )
        self.client: FlaskClient = app.test_client()

    @property
    def server_span(self) -> ReadableSpan:
        """Return the span of the last request."""
        return self.telemetry.spans[-1]

    @property
    def span_attributes(self) -> dict[str, object]:
        """Return the attributes of that span."""
        return dict(attributes(self.server_span))
