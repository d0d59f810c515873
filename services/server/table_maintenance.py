"""TableMaintenance: creates, trims and periodically recreates the tables.

Several replicas may run it at once. An advisory lock admits one at a time, and the time of the last recreation is
stored in the database, so the tables are recreated once per period and not once per replica.
"""

import logging
import threading
import time
from collections.abc import Callable

from opentelemetry.trace import Status, StatusCode, Tracer
from psycopg import Connection, Error, sql

from common.faults import DAILY_WIPE, Faults
from services.server.store import REMEDIES, DatabaseUnavailable, Row, Store

log = logging.getLogger(__name__)

# An arbitrary number, the same in every replica and used for nothing else in this database.
LOCK = 0x6D797468

TRIM_EVERY_S = 60.0
RETRY_S = 1.0

WIPES = "mythical_wipes"
CREATE_WIPES = f"CREATE TABLE IF NOT EXISTS {WIPES} (last timestamptz NOT NULL)"
FIRST_WIPE = f"INSERT INTO {WIPES} SELECT clock_timestamp() WHERE NOT EXISTS (SELECT FROM {WIPES})"  # noqa: S608
WIPE_DUE = f"SELECT extract(epoch FROM clock_timestamp() - last) * 1000 >= %s FROM {WIPES}"  # noqa: S608
WIPED = f"UPDATE {WIPES} SET last = clock_timestamp()"  # noqa: S608

# Statistics of statements. The library has to be loaded, or its function raises an error.
STATISTICS = "CREATE EXTENSION IF NOT EXISTS pg_stat_statements"
STATISTICS_WORK = "SELECT count(*) FROM pg_stat_statements(false)"

# The index that finds the newest rows. It is missing after a process died while the fault missing_index was on.
HAS_INDEX = "SELECT 1 FROM pg_index WHERE indrelid = to_regclass(quote_ident(%s)) AND indisprimary"
ADD_INDEX = "ALTER TABLE {table} ADD PRIMARY KEY (id)"


def add_index(connection: Connection[Row], table: str) -> None:
    """Add the index on the id, if the table has none."""
    if not connection.execute(HAS_INDEX.encode(), (table,)).fetchone():
        connection.execute(sql.SQL(ADD_INDEX).format(table=sql.Identifier(table)))


def _create_statistics(connection: Connection[Row]) -> None:
    """Have Postgres show its statistics of statements; log one line if it cannot."""
    try:
        with connection.transaction():
            connection.execute(STATISTICS.encode())
            connection.execute(STATISTICS_WORK.encode())
    except Error as error:
        log.warning("no statistics of statements", extra={"fields": {"error": error.diag.message_primary}})


class TableMaintenance:
    """A thread that maintains the tables; its last attempt also shows whether the database answers.

    `ready` is true while the tables exist and the database answers, `is_recreating` while they are recreated.
    """

    def __init__(
        self,
        store: Store,
        tracer: Tracer,
        *,
        rows: int,
        wipe_after_ms: float,
        faults: Faults,
        trim_every_s: float = TRIM_EVERY_S,
    ) -> None:
        self._store = store
        self._tracer = tracer
        self._rows = rows
        self._wipe_after_ms = wipe_after_ms
        self._faults = faults
        self._trim_every_s = trim_every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="table-maintenance", daemon=True)
        self._created = False
        self._problem = ""
        self._failed_at = 0.0
        self.ready = False
        self.is_recreating = False

    def start(self) -> None:
        """Start the thread; it retries every second while the database is unavailable."""
        self._thread.start()

    @property
    def problem(self) -> str | None:
        """Why the tables cannot be used, or None while `ready`."""
        return None if self.ready else self._problem or "the database has no tables yet"

    def close(self, timeout_s: float = 1.0) -> None:
        """Stop after the current task, or after timeout_s seconds; the database then rolls the task back."""
        self._stop.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        trimmed = time.monotonic()
        while not self._stop.is_set():
            if not self._created or self._store.tables_missing.is_set():
                self.ready = self._attempt("create tables", self._create) and self._created
            elif time.monotonic() - trimmed >= self._trim_every_s:
                trimmed = time.monotonic()
                self.ready = self._attempt("trim tables", self._trim)
            else:
                self.ready = self._attempt("wipe tables", self._wipe)
            self._stop.wait(self._pause_s())

    def _pause_s(self) -> float:
        """Return a twentieth of the period, so that no recreation is later than that, but at most one second."""
        return min(RETRY_S, max(self._wipe_after_ms / 20_000, 0.01))

    def _attempt(self, task: str, action: Callable[[Connection[Row]], None]) -> bool:
        """Run the action in one transaction, unless another replica runs one; return whether the database answered."""
        try:
            with self._store.connection() as connection, connection.transaction():
                if connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (LOCK,)).fetchone() == (True,):
                    action(connection)
            if self._problem:
                outage_s = round(time.monotonic() - self._failed_at, 3)
                log.info("maintenance resumed", extra={"fields": {"task": task, "outage_s": outage_s}})
                self._problem = ""
            return True
        except DatabaseUnavailable as error:
            if self._is_new(error):
                log.warning("maintenance postponed", extra={"fields": {"task": task, "error": self._problem}})
        except Exception as error:  # of any kind: a dead thread would go unnoticed
            if self._is_new(error):
                log.exception("maintenance failed", extra={"fields": {"task": task, "error": self._problem}})
        finally:
            self.is_recreating = False
        return False

    def _is_new(self, error: Exception) -> bool:
        """Return whether an attempt failed for another reason than the one before: an outage may last for hours."""
        cause = f"{error}: {error.__cause__}" if error.__cause__ else str(error)
        remedy = next((f"; {remedy}" for part, remedy in REMEDIES.items() if part in cause), "")
        before, self._problem = self._problem, " ".join(cause.split()) + remedy
        if not before:
            self._failed_at = time.monotonic()
        return self._problem != before

    def _create(self, connection: Connection[Row]) -> None:
        with self._tracer.start_as_current_span("server"):
            self._create_tables(connection)
            connection.execute(CREATE_WIPES.encode())
            connection.execute(FIRST_WIPE.encode())
            _create_statistics(connection)
            log.info("tables ready", extra={"fields": {"tables": len(self._store.statements)}})
        self._created = True
        self._store.tables_missing.clear()

    def _create_tables(self, connection: Connection[Row]) -> None:
        for table, of in self._store.statements.items():
            connection.execute(of.create.text.encode())
            add_index(connection, table)

    def _wipe(self, connection: Connection[Row]) -> None:
        if not self._faults.strength(DAILY_WIPE):
            return
        if connection.execute(WIPE_DUE.encode(), (self._wipe_after_ms,)).fetchone() != (True,):
            return
        with self._tracer.start_as_current_span("server") as span:
            self.is_recreating = True
            log.info("dropping tables")
            try:
                for of in self._store.statements.values():
                    connection.execute(of.drop.text.encode())
                self._create_tables(connection)
                connection.execute(WIPED.encode())
            except Error as error:
                span.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise
            log.info("tables recreated")

    def _trim(self, connection: Connection[Row]) -> None:
        for of in self._store.statements.values():
            gone = connection.execute(of.trim.text.encode(), (self._rows,)).rowcount
            if gone:
                log.info("oldest rows removed", extra={"fields": {"table": of.trim.table, "rows": gone}})
