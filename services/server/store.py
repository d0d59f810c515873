"""The store: names of beasts in Postgres, through a connection pool. Every wait has a limit."""

import logging
import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import psycopg
from psycopg import errors
from psycopg.abc import Params
from psycopg.sql import Composable
from psycopg_pool import ConnectionPool, PoolTimeout, TooManyRequests

from common.faults import N_PLUS_ONE, POOL_TOO_SMALL, SLOW_QUERY, Faults
from services.server.circuit_breaker import CircuitBreaker
from services.server.config import Database
from services.server.sql_telemetry import StatementTracer, comment
from services.server.statements import Statement, Statements

# How long a request waits for a free connection before it is rejected.
CHECKOUT_S = 1.0

# The pool doubles its pause between attempts to connect and starts again at one second after this time. With 10 s, it
# notices within 4 s that the database is available again.
RECONNECT_S = 10.0

TIMEOUTS_IGNORED = "a pooler such as PgBouncer does not apply the timeouts to the session"
TIMEOUT_IN_EFFECT = "SELECT setting FROM pg_settings WHERE name = 'statement_timeout'"

# What an administrator has to change.
UNUSABLE: dict[type[psycopg.Error], str] = {
    errors.DiskFull: "the database is out of disk space",
    errors.InsufficientPrivilege: "the database role lacks a privilege",
    errors.InvalidSchemaName: "the search path of the database has no schema",
    errors.ReadOnlySqlTransaction: "the database is read-only",
}

FEWER_CONNECTIONS = "allow more connections there, or set MYTHICAL_DATABASE_CONNECTIONS lower"
# What to change, by a part of the error's text: an error of connecting has no code.
REMEDIES = {
    TIMEOUTS_IGNORED: "set MYTHICAL_DATABASE_POOLER=true",
    "unsupported startup parameter": "PgBouncer rejects the timeouts; set MYTHICAL_DATABASE_POOLER=true",
    "statement pooling mode": "set pool_mode = transaction in PgBouncer",
    "query_wait_timeout": "PgBouncer has too few sessions; set pool_mode = transaction there, or "
    "MYTHICAL_DATABASE_CONNECTIONS to at most default_pool_size",
    "too many": FEWER_CONNECTIONS,
    "remaining connection slots": FEWER_CONNECTIONS,
    "no more connections allowed": FEWER_CONNECTIONS,
    "password": "check MYTHICAL_DATABASE_USER and MYTHICAL_DATABASE_PASSWORD",
    "pg_hba.conf": "allow the user, database and address in that file, or check PGSSLMODE",
    "SSL was required": "set PGSSLMODE=prefer, or turn TLS on in Postgres",
    "certificate": "check PGSSLMODE and PGSSLROOTCERT",
    "sslmode": "check PGSSLMODE",
}

Row = tuple[Any, ...]
Pool = ConnectionPool[psycopg.Connection[Row]]


class DatabaseUnavailable(Exception):
    """The database is unavailable or overloaded, or its tables are being recreated. A retry may succeed."""


class DuplicateName(Exception):
    """The name already exists."""


class NullNameRejected(Exception):
    """The database rejected NULL in place of a name."""


class ServerConnection(psycopg.Connection[Row]):
    """A connection that adds a comment with the trace to each statement, if `comments` is set.

    Such a statement is not prepared: its text differs each time, so psycopg would count texts that never repeat. The
    comment follows a semicolon, so pg_stat_statements stores the text without it.
    """

    comments = False

    def execute(
        self, query: Any, params: Params | None = None, *, prepare: bool | None = None, binary: bool = False
    ) -> psycopg.Cursor[Row]:
        """Run a statement; see psycopg.Connection.execute."""
        if self.comments and isinstance(query, bytes | Composable):
            added = f"; {comment()}".encode()
            # With values, psycopg reads % as the start of a placeholder.
            added = added if params is None else added.replace(b"%", b"%%")
            query, prepare = (query if isinstance(query, bytes) else query.as_bytes(self)) + added, False
        return super().execute(query, params, prepare=prepare, binary=binary)


class ConnectionHealth:
    """`error` is that of a failed connect, None once a connect or a statement succeeds."""

    def __init__(self) -> None:
        self.error: psycopg.OperationalError | None = None

    def connection_class(
        self, session_timeout_ms: int | None, *, commented: bool = False
    ) -> type[psycopg.Connection[Row]]:
        """Return the class of connections that report the result of each connect here; the pool connects in threads.

        With `session_timeout_ms`, a session with another statement timeout is an error: a pooler that discards session
        settings mixes up prepared statements, too.
        """
        health = self

        class MonitoredConnection(ServerConnection):
            comments = commented

            @classmethod
            def connect(cls, *arguments: Any, **options: Any) -> Self:
                try:
                    connection = super().connect(*arguments, **options)
                    if session_timeout_ms is not None:
                        in_effect = connection.execute(TIMEOUT_IN_EFFECT).fetchone()
                        if in_effect != (str(session_timeout_ms),):
                            connection.close()
                            raise psycopg.OperationalError(TIMEOUTS_IGNORED)
                except psycopg.OperationalError as error:
                    health.error = error
                    raise
                health.error = None
                return connection

        return MonitoredConnection


class LivePool(Pool):
    """A pool that discards connections that the database closed while they were idle: a restart, a timeout, a pooler.

    Without data to read, a connection is used without a question to the database.
    """

    def getconn(self, timeout: float | None = None) -> psycopg.Connection[Row]:
        """Return a connection; see ConnectionPool.getconn."""
        while _has_input(connection := super().getconn(timeout)):
            connection.close()
            self.putconn(connection)
        return connection


def _has_input(connection: psycopg.Connection[Row]) -> bool:
    """Return whether an idle connection was closed or received an unsolicited message."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def make_pool(database: Database, health: ConnectionHealth) -> Pool:
    """Return the pool, still closed. It opens without waiting, so the server starts while Postgres is down.

    Connections are in autocommit mode. Statement and lock timeouts are set in the database session, so Postgres cancels
    the work; a timeout in this process would leave it running there. With a pooler, each checkout is one transaction
    with local timeouts, and no statement is prepared.
    """
    # It logs each failed attempt to connect; TableMaintenance logs the first, and the end of the outage.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    timeout = database.statement_timeout_ms
    in_session = {"autocommit": True, "options": f"-c statement_timeout={timeout} -c lock_timeout={timeout // 2}"}
    return LivePool(
        connection_class=health.connection_class(None if database.pooler else timeout, commented=database.comments),
        kwargs={
            **database.address,
            **({"prepare_threshold": None} if database.pooler else in_session),
            "application_name": "mythical-server",
            "connect_timeout": 3,
            "tcp_user_timeout": 5000,  # detects a vanished peer after 5 s instead of 15 minutes
        },
        min_size=database.connections,
        max_size=database.connections,
        timeout=CHECKOUT_S,
        max_waiting=database.connections * 8,
        reconnect_timeout=RECONNECT_S,
        reconnect_failed=_reconnect,
        open=False,
        name="mythical",
    )


def _reconnect(pool: Pool) -> None:
    """Make the pool connect again after its last attempt failed.

    Otherwise it would only do so for the next caller that waits. But callers whose wait timed out stay in its queue,
    and once the queue is full, the pool rejects every caller before it comes to that, forever.
    """
    pool.check()


class Store:
    """Reads and writes names. Every method raises DatabaseUnavailable if the database cannot do it now."""

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
        self._local_timeouts = (
            f"SET LOCAL statement_timeout = {statement_s * 1000:.0f}; SET LOCAL lock_timeout = {statement_s * 500:.0f}"
        )
        self._health = health
        self._spans = spans
        self._faults = faults
        self.tables_missing = threading.Event()  # set by a statement that finds no table; maintenance recreates them
        self.has_sightings = False  # set while the table of the injected fault stale_statistics exists
        self.statements: dict[str, Statements] = {table: Statements(table) for table in tables}

    def page(self, table: str, limit: int, before: int | None) -> list[tuple[int, str]]:
        """Return up to `limit` rows of (id, name), newest first, with ids below `before`."""
        of, values = self.statements[table], (limit,) if before is None else (before, limit)
        if self._faults.should_trigger(N_PLUS_ONE):
            return self._one_by_one(of, values)
        rows: list[tuple[int, str]]
        if self.has_sightings:
            rows = self._run(of.counted_newest if before is None else of.counted_older, values)
        elif slow_s := self._faults.random_delay(SLOW_QUERY, 0.2, 0.4):
            rows = self._run(of.slow_newest if before is None else of.slow_older, (slow_s, *values))
        else:
            rows = self._run(of.newest if before is None else of.older, values)
        return rows

    def _one_by_one(self, of: Statements, values: tuple[int, ...]) -> list[tuple[int, str]]:
        """Read a page as the injected fault n_plus_one does: its ids first, then each row by its id."""
        ids = self._run(of.ids if len(values) == 1 else of.older_ids, values)
        return [row for (number,) in ids for row in self._run(of.by_id, (number,))]

    def add(self, table: str, name: str | None) -> None:
        """Insert a name; raise DuplicateName if it exists, NullNameRejected for None (the injected fault)."""
        try:
            if not self._run(self.statements[table].add, (name,)):
                raise DuplicateName
        except errors.NotNullViolation as error:
            raise NullNameRejected(str(error.diag.message_primary)) from error

    def remove(self, table: str, name: str) -> None:
        """Delete a name, if it exists."""
        self._run(self.statements[table].remove, (name,))

    def _run(self, statement: Statement, values: tuple[object, ...]) -> Any:
        """Run a statement; return the rows of a SELECT, or the number of rows changed by any other statement."""
        if self._breaker.is_open(statement.text):
            raise DatabaseUnavailable("the table is locked")
        with self.connection() as connection, self._spans.trace(statement, connection):
            try:
                cursor = connection.execute(statement.text.encode(), values)
            except errors.LockNotAvailable:
                self._breaker.record_failure(statement.text)
                raise
            self._breaker.record_success(statement.text)
            return cursor.fetchall() if statement.operation == "SELECT" else cursor.rowcount

    @contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Row]]:
        """Check out a connection; raise DatabaseUnavailable for transient errors, in the block too."""
        if self._health.error and not self._pool.get_stats().get("pool_available"):
            # Waiting would be pointless and occupy one of few threads. The pool reconnects by itself.
            raise DatabaseUnavailable("the database is unavailable") from self._health.error
        try:
            with self._pool.connection() as connection:
                if not connection.autocommit:
                    connection.execute(self._local_timeouts.encode())
                yield connection
                if held_s := self._faults.random_delay(POOL_TOO_SMALL, 0.03, 0.05):
                    time.sleep(held_s)  # simulated: other work before the connection is returned
            self._health.error = None
        except (PoolTimeout, TooManyRequests) as error:
            if self._health.error:
                raise DatabaseUnavailable("the database is unavailable") from self._health.error
            raise DatabaseUnavailable("no database connection is free") from error
        except (errors.QueryCanceled, errors.LockNotAvailable) as error:
            raise DatabaseUnavailable("the database took too long") from error
        except errors.UndefinedTable as error:
            self.tables_missing.set()
            raise DatabaseUnavailable("the tables do not exist yet") from error
        except tuple(UNUSABLE) as error:
            raise DatabaseUnavailable(UNUSABLE[type(error)]) from error
        except psycopg.OperationalError as error:
            raise DatabaseUnavailable("the database is unavailable") from error
