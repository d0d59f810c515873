"""The server's injected faults: what they do apart from the requests, and the computation of `cpu_burn`.

The faults that change how a request is served are injected there, in store.py and routes.py.
"""

import logging
import time
from collections.abc import Iterable
from typing import Any

import psycopg
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from psycopg import sql

from common.faults import (
    IDLE_TRANSACTION,
    LABEL_EXPLOSION,
    LOCK_CONTENTION,
    LOG_FLOOD,
    LONG_LABEL,
    MISSING_INDEX,
    POOL_TOO_SMALL,
    STALE_STATISTICS,
    Faults,
)
from common.faults.background import BackgroundFault
from services.server.config import Database
from services.server.sql_telemetry import StatementTracer
from services.server.statements import Statement
from services.server.store import DatabaseUnavailable, Pool, ServerConnection, Store
from services.server.table_maintenance import HAS_INDEX, LOCK, WIPES, add_index

log = logging.getLogger(__name__)

CLOSE_S = 1.0


class BackgroundFaults:
    """The faults that need a thread while they are on: each starts when its fault is set and cleans up afterwards."""

    def __init__(self, faults: Faults, database: Database, store: Store, pool: Pool, spans: StatementTracer) -> None:
        self._all: tuple[BackgroundFault, ...] = (
            log_flood(faults),
            missing_index(faults, store),
            lock_contention(faults, database, tuple(store.statements), spans),
            pool_too_small(faults, pool, database.connections),
            stale_statistics(faults, store),
            idle_transaction(faults, database, store, spans),
        )

    def start(self) -> None:
        """Start those that are on."""
        for fault in self._all:
            fault.start()

    def close(self) -> None:
        """Stop and clean up all of them in parallel, within one second even if the database does not respond."""
        for fault in self._all:
            fault.close(0)
        deadline = time.monotonic() + CLOSE_S
        for fault in self._all:
            fault.close(max(deadline - time.monotonic(), 0))


def log_flood(faults: Faults) -> BackgroundFault:
    """Return the fault `log_flood`: 200 meaningless log lines per second, times its strength."""

    def step(strength: float) -> float:
        for _ in range(round(20 * strength)):
            log.info("cache looked up", extra={"fields": {"status": "SUCCESS"}})
        return 0.1

    return BackgroundFault(faults, LOG_FLOOD, step)


# Adding so many rows takes longer than the usual statement timeout.
RAISE_TIMEOUT = b"SET LOCAL statement_timeout = '30s'"
# The ids are below all others, so no page shows these rows.
ADD_ROWS = """INSERT INTO {table} (id, name) SELECT -number, '~' || md5(number::text)
FROM generate_series(1, %s) AS number ON CONFLICT DO NOTHING"""
DROP_INDEX = "ALTER TABLE {table} DROP CONSTRAINT {index}"
DELETE_ROWS = "DELETE FROM {table} WHERE id < 0"


def missing_index(faults: Faults, store: Store) -> BackgroundFault:
    """Return the fault `missing_index`: 100,000 rows per table, times its strength, and no index on the id.

    A missing index is not noticeable in a small table. Recreated tables have an index, so this checks each second.
    """

    def step(strength: float) -> float:
        for table in store.statements:
            with store.connection() as connection, connection.transaction():
                connection.execute(RAISE_TIMEOUT)
                if connection.execute(HAS_INDEX.encode(), (table,)).fetchone():
                    connection.execute(_composed(ADD_ROWS, table), (round(100_000 * strength),))
                    connection.execute(_composed(DROP_INDEX, table))
        return 1.0

    def undo() -> None:
        for table in store.statements:
            with store.connection() as connection, connection.transaction():
                connection.execute(RAISE_TIMEOUT)
                add_index(connection, table)
                connection.execute(_composed(DELETE_ROWS, table))

    return BackgroundFault(faults, MISSING_INDEX, step, undo)


def _composed(text: str, table: str) -> bytes:
    names = {"table": sql.Identifier(table), "index": sql.Identifier(f"{table}_pkey")}
    return sql.SQL(text).format(**names).as_bytes(None)


def _session(database: Database, application: str) -> ServerConnection:
    """Connect outside the pool, which must not run short, as another application."""
    login = {**database.address, "application_name": application, "connect_timeout": 3}
    connection = ServerConnection.connect(**login)
    connection.comments = database.comments
    return connection


# Held for less than the lock timeout of a statement, so that blocked statements continue in between.
HELD_S, FREE_S = 0.8, 0.2


def lock_contention(
    faults: Faults, database: Database, tables: tuple[str, ...], spans: StatementTracer
) -> BackgroundFault:
    """Return the fault `lock_contention`: all tables are locked for 0.8 s of each second, times its strength."""
    names = sql.SQL(", ").join(map(sql.Identifier, tables)).as_string(None)
    lock = Statement("LOCK", "all", f"LOCK TABLE {names} IN SHARE MODE")

    def step(strength: float) -> float:
        with _session(database, "mythical-report") as connection, spans.trace(lock, connection):
            connection.execute(lock.text.encode())
            time.sleep(HELD_S * strength)  # the end of the transaction, and of this block, releases the lock
        return FREE_S + HELD_S * (1 - strength)

    return BackgroundFault(faults, LOCK_CONTENTION, step)


def pool_too_small(faults: Faults, pool: Pool, size: int) -> BackgroundFault:
    """Return the fault `pool_too_small`: it keeps a share of the pool's `size` connections, but never the last one."""
    taken: list[psycopg.Connection[Any]] = []

    def step(strength: float) -> float:
        wanted = min(round(size * strength), size - 1)
        while len(taken) < wanted:
            taken.append(pool.getconn(2.0))
        while len(taken) > wanted:
            pool.putconn(taken.pop())
        return 0.5

    def undo() -> None:
        while taken:
            pool.putconn(taken.pop())

    return BackgroundFault(faults, POOL_TOO_SMALL, step, undo)


# Autovacuum would update the statistics within a minute.
CREATE_SIGHTINGS = b"""CREATE TABLE mythical_sightings (beast int NOT NULL, state int NOT NULL)
WITH (autovacuum_enabled = false)"""
FILL_SIGHTINGS = b"INSERT INTO mythical_sightings SELECT number, 0 FROM generate_series(1, 2000) AS number"
ADD_SIGHTINGS = b"""INSERT INTO mythical_sightings
SELECT number, state FROM generate_series(1, %s) AS number, generate_series(1, 2) AS state"""
DROP_SIGHTINGS = b"DROP TABLE IF EXISTS mythical_sightings"


def stale_statistics(faults: Faults, store: Store) -> BackgroundFault:
    """Return the fault `stale_statistics`: a table whose statistics lack 1,000 rows, times its strength.

    Postgres chooses the plan by the statistics. ANALYZE ends the effect while the fault is still on.
    """

    def step(strength: float) -> float:
        if not store.has_sightings:
            # Not in one transaction: the rows of one that is open count as changed after an ANALYZE.
            with store.connection() as connection:
                for statement in (DROP_SIGHTINGS, CREATE_SIGHTINGS, FILL_SIGHTINGS, b"ANALYZE mythical_sightings"):
                    connection.execute(statement)
                connection.execute(ADD_SIGHTINGS, (round(500 * strength),))
            store.has_sightings = True
        return 1.0

    def undo() -> None:
        store.has_sightings = False
        with store.connection() as connection:
            connection.execute(DROP_SIGHTINGS)

    return BackgroundFault(faults, STALE_STATISTICS, step, undo)


LAST_WIPE = f"SELECT last FROM {WIPES}"  # noqa: S608 - constants
SET_LAST_WIPE = f"UPDATE {WIPES} SET last = %s"  # noqa: S608 - constants
LONG_AGO = "2000-01-01 00:00:00+00"


def idle_transaction(faults: Faults, database: Database, store: Store, spans: StatementTracer) -> BackgroundFault:
    """Return the fault `idle_transaction`: an export has read all tables and not ended its transaction.

    The wipe, which becomes due, waits for it, and requests wait for the wipe. Afterwards, the wipe is as due as before.
    """
    counts = (sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table)) for table in store.statements)
    read = Statement("SELECT", "all", sql.SQL(" UNION ALL ").join(counts).as_string(None))
    held: list[psycopg.Connection[Any]] = []
    last: list[Any] = []

    def step(_: float) -> float:
        try:
            if not held:
                export = _session(database, "mythical-export")
                held.append(export)
                with spans.trace(read, export):
                    export.execute(read.text.encode())
            with store.connection() as connection:
                last[:] = last or connection.execute(LAST_WIPE.encode()).fetchone() or []
                connection.execute(SET_LAST_WIPE.encode(), (LONG_AGO,))
        except (psycopg.Error, DatabaseUnavailable):
            close()
            raise
        return 1.0

    def close() -> None:
        while held:
            held.pop().close()

    def undo() -> None:
        if last:
            # A wipe that waits already would go on once the export ends: its transaction has to end first.
            with store.connection() as connection, connection.transaction():
                connection.execute(b"SELECT pg_advisory_xact_lock(%s)", (LOCK,))
                connection.execute(SET_LAST_WIPE.encode(), last)
        last.clear()
        close()

    return BackgroundFault(faults, IDLE_TRANSACTION, step, undo)


# Enough to be visible, and too few to harm a metrics store.
MAX_VISITORS = 400

# Twice Mimir's default limit (max_label_value_length, 2048 bytes).
MAX_TEXT_LENGTH = 4_000


def register_label_faults(faults: Faults, meter: Meter) -> None:
    """Register the gauges of `label_explosion` and `long_label`, which have no series while their fault is off.

    Simulated: there are no visitors, and the response is always the same one. Gauges, because an observable gauge can
    stop reporting a series and a counter cannot.
    """

    def visits(_: CallbackOptions) -> Iterable[Observation]:
        for number in range(round(MAX_VISITORS * faults.strength(LABEL_EXPLOSION))):
            yield Observation(1, {"visitor": f"visitor-{number:03}"})

    def latest_answer(_: CallbackOptions) -> Iterable[Observation]:
        if length := round(MAX_TEXT_LENGTH * faults.strength(LONG_LABEL)):
            yield Observation(length, {"answer": ('{"name": "sly_otter"}, ' * length)[:length]})

    meter.create_observable_gauge("mythical_visits", [visits], description="Visits by visitor: an injected fault.")
    meter.create_observable_gauge(
        "mythical_latest_answer", [latest_answer], description="Length of a response by its text: an injected fault."
    )


def compare_all_names(names: list[str], seconds: float) -> int:
    """Compare all pairs of names for `seconds` of this thread's CPU time; return how many letters they share.

    The computation of the fault `cpu_burn`: useless, under a name that stands out in a profile.
    """
    end, shared = time.thread_time() + seconds, 0
    names = names or ["russet_sly_otter", "rusty_shy_otter", "ruby_odd_otter"]
    while True:
        for one in names:
            for other in names:
                shared += len(set(one) & set(other))
                if time.thread_time() >= end:
                    return shared
