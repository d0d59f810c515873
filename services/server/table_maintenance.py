"""TableMaintenance: the tables are there, stay small, and are dropped and made anew when their time is over.

Any number of replicas may do this at once: an advisory lock lets one at a time, and the time of the last wipe is kept
in the database, so that one wipe happens per period, not one per replica.
"""

import logging
import threading
import time
from collections.abc import Callable

from opentelemetry.trace import Status, StatusCode, Tracer
from psycopg import Connection, Error, sql

from common.faults import DAILY_WIPE, Faults
from services.server.connection_health import Row
from services.server.store import DatabaseUnavailable, Store

log = logging.getLogger(__name__)

# Any number will do; it only has to be the same in every replica and used for nothing else in this database.
LOCK = 0x6D797468

TRIM_EVERY_S = 60.0
RETRY_S = 1.0

WIPES = "mythical_wipes"
CREATE_WIPES = f"CREATE TABLE IF NOT EXISTS {WIPES} (last timestamptz NOT NULL)"
FIRST_WIPE = f"INSERT INTO {WIPES} SELECT clock_timestamp() WHERE NOT EXISTS (SELECT FROM {WIPES})"  # noqa: S608
WIPE_DUE = f"SELECT extract(epoch FROM clock_timestamp() - last) * 1000 >= %s FROM {WIPES}"  # noqa: S608
WIPED = f"UPDATE {WIPES} SET last = clock_timestamp()"  # noqa: S608

# The index by which the newest rows are found; a run that ended in the midst of the fault missing_index left none.
HAS_INDEX = "SELECT 1 FROM pg_index WHERE indrelid = to_regclass(quote_ident(%s)) AND indisprimary"
ADD_INDEX = "ALTER TABLE {table} ADD PRIMARY KEY (id)"


def add_index(connection: Connection[Row], table: str) -> None:
    """Give a table its index on the id, if it has none."""
    if not connection.execute(HAS_INDEX.encode(), (table,)).fetchone():
        connection.execute(sql.SQL(ADD_INDEX).format(table=sql.Identifier(table)))


class TableMaintenance:
    """A thread that keeps the tables, and by doing so knows how the database is.

    `ready` while the tables exist and the database answers, `is_recreating` while they are made anew.
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
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)
        self._created = False
        self.ready = False
        self.is_recreating = False

    def start(self) -> None:
        """Begin; while the database is away, it is asked again each second."""
        self._thread.start()

    def close(self, timeout_s: float = 1.0) -> None:
        """Stop after what is under way; after timeout_s seconds it is given up, and the database takes it back."""
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
        """A twentieth of the time between wipes, so that none comes later than that, but no less often than 1/s."""
        return min(RETRY_S, max(self._wipe_after_ms / 20_000, 0.01))

    def _attempt(self, what: str, action: Callable[[Connection[Row]], None]) -> bool:
        """Do it in one transaction, alone among the replicas; True when the database answered."""
        try:
            with self._store.connection() as connection, connection.transaction():
                if connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (LOCK,)).fetchone() == (True,):
                    action(connection)
            return True
        except DatabaseUnavailable as away:
            log.warning("upkeep has to wait", extra={"fields": {"upkeep": what, "error": str(away)}})
        except Error:
            log.exception("upkeep failed", extra={"fields": {"upkeep": what}})
        finally:
            self.is_recreating = False
        return False

    def _create(self, connection: Connection[Row]) -> None:
        with self._tracer.start_as_current_span("server"):
            self._create_tables(connection)
            connection.execute(CREATE_WIPES.encode())
            connection.execute(FIRST_WIPE.encode())
            log.info("tables are there", extra={"fields": {"tables": len(self._store.statements)}})
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
            log.info("tables made anew")

    def _trim(self, connection: Connection[Row]) -> None:
        for of in self._store.statements.values():
            gone = connection.execute(of.trim.text.encode(), (self._rows,)).rowcount
            if gone:
                log.info("oldest rows removed", extra={"fields": {"table": of.trim.table, "rows": gone}})
