"""The store: names of beasts in Postgres, through a pool, with an end to every wait."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import errors
from psycopg_pool import ConnectionPool, PoolTimeout, TooManyRequests

from common.faults import N_PLUS_ONE, POOL_TOO_SMALL, SLOW_QUERY, Faults
from services.server.circuit_breaker import CircuitBreaker
from services.server.config import Database
from services.server.connection_health import ConnectionHealth, Row
from services.server.sql_telemetry import StatementTracer
from services.server.statements import Statement, Statements, statements

# How long a request waits for a connection of the pool before it is told to come again.
CHECKOUT_S = 1.0

# The pool doubles its pause between attempts to connect, and begins at one second again after this time: with 10 s, a
# database that is back is noticed within 4 s.
RECONNECT_S = 10.0


Pool = ConnectionPool[psycopg.Connection[Row]]


class DatabaseUnavailable(Exception):
    """The database is away, busy beyond its limits, or its tables are being made anew. Trying again helps."""


class DuplicateName(Exception):
    """The name exists already."""


class NullNameRejected(Exception):
    """The database refused a name that had become NULL on the way."""


def make_pool(database: Database, health: ConnectionHealth) -> Pool:
    """Make the pool, closed; `health` learns how attempts to connect end.

    It opens without waiting, so that the server starts while Postgres is away.

    Statements are each their own transaction. Time limits are set in the server process of each connection: what
    runs too long or waits too long for a lock is ended there, not merely forgotten here.
    """
    timeout = database.statement_timeout_ms
    return ConnectionPool(
        connection_class=health.connection_class(),
        kwargs={
            **database.address,
            "autocommit": True,
            "application_name": "mythical-server",
            "connect_timeout": 3,
            "tcp_user_timeout": 5000,  # a peer that vanished without a word is noticed in 5 s, not in 15 minutes
            "options": f"-c statement_timeout={timeout} -c lock_timeout={timeout // 2}",
        },
        min_size=database.connections,
        max_size=database.connections,
        timeout=CHECKOUT_S,
        max_waiting=database.connections * 8,
        reconnect_timeout=RECONNECT_S,
        reconnect_failed=_begin_again,
        open=False,
        name="mythical",
    )


def _begin_again(pool: Pool) -> None:
    """Have the pool connect anew where it gave up.

    By itself it would begin again with the next caller that has to wait; but callers that waited in vain stay in its
    queue, and once that is full each next one is refused before it comes to that, for ever.
    """
    pool.check()


class Store:
    """Reads and writes names. Every method raises DatabaseUnavailable when the database cannot be asked now."""

    def __init__(
        self,
        pool: Pool,
        health: ConnectionHealth,
        spans: StatementTracer,
        tables: tuple[str, ...],
        faults: Faults,
        *,
        statement_s: float,
    ) -> None:
        self._pool = pool
        self._breaker = CircuitBreaker(CHECKOUT_S + statement_s)
        self._health = health
        self._spans = spans
        self._faults = faults
        self.tables_missing = threading.Event()  # set when a statement found none; upkeep makes them anew
        self.statements: dict[str, Statements] = {table: statements(table) for table in tables}

    def page(self, table: str, limit: int, before: int | None) -> list[tuple[int, str]]:
        """Give up to `limit` rows of (id, name), newest first, of those older than the id `before`."""
        of, rest = self.statements[table], (limit,) if before is None else (before, limit)
        if self._faults.should_trigger(N_PLUS_ONE):
            return self._one_by_one(of, rest)
        rows: list[tuple[int, str]]
        if slow_s := self._faults.random_delay(SLOW_QUERY, 0.2, 0.4):
            rows = self._run(of.slow_newest if before is None else of.slow_older, (slow_s, *rest))
        else:
            rows = self._run(of.newest if before is None else of.older, rest)
        return rows

    def _one_by_one(self, of: Statements, rest: tuple[int, ...]) -> list[tuple[int, str]]:
        """Read a page as the planted fault n_plus_one does: its ids first, then each row by its id."""
        ids = self._run(of.ids if len(rest) == 1 else of.older_ids, rest)
        return [row for (number,) in ids for row in self._run(of.by_id, (number,))]

    def add(self, table: str, name: str | None) -> None:
        """Keep a name; raises DuplicateName if it exists, NullNameRejected for None (the planted fault)."""
        try:
            if not self._run(self.statements[table].add, (name,)):
                raise DuplicateName
        except errors.NotNullViolation as refusal:
            raise NullNameRejected(str(refusal.diag.message_primary)) from refusal

    def remove(self, table: str, name: str) -> None:
        """Forget a name; one that is not there is forgotten already."""
        self._run(self.statements[table].remove, (name,))

    def _run(self, statement: Statement, values: tuple[object, ...]) -> Any:
        """Run a statement; give the rows of a SELECT, of any other the number of rows it changed."""
        if self._breaker.is_open(statement.text):
            raise DatabaseUnavailable("the table is locked")
        with self.connection() as connection, self._spans.span(statement):
            try:
                cursor = connection.execute(statement.text.encode(), values)
            except errors.LockNotAvailable:
                self._breaker.record_failure(statement.text)
                raise
            self._breaker.record_success(statement.text)
            return cursor.fetchall() if statement.operation == "SELECT" else cursor.rowcount

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Row]]:
        """Lend a connection; raises DatabaseUnavailable for whatever time may heal."""
        if self._health.is_down and not self._pool.get_stats().get("pool_available"):
            # A wait for a connection would be in vain, and hold one of few threads: the pool itself tries again.
            raise DatabaseUnavailable("the database is away")
        try:
            with self._pool.connection() as connection:
                yield connection
                if held_s := self._faults.random_delay(POOL_TOO_SMALL, 0.03, 0.05):
                    time.sleep(held_s)  # simulated: what else one may do before a connection is given back
            self._health.is_down = False
        except (PoolTimeout, TooManyRequests) as error:
            raise DatabaseUnavailable("no connection to the database is free") from error
        except (errors.QueryCanceled, errors.LockNotAvailable) as error:
            raise DatabaseUnavailable("the database took too long") from error
        except errors.UndefinedTable as error:
            self.tables_missing.set()
            raise DatabaseUnavailable("the tables are not there yet") from error
        except errors.DiskFull as error:
            raise DatabaseUnavailable("the database has no room") from error
        except psycopg.OperationalError as error:
            raise DatabaseUnavailable("the database is away") from error
