"""The fault `missing_index`: tables that have grown, and lost the index by which their newest rows are found.

In a small table nobody would notice. So rows are added, with ids below all others: no page shows them.
"""

from psycopg import sql

from common.faults import MISSING_INDEX, Faults
from common.faults.background import BackgroundFault
from services.server.store import Store
from services.server.table_maintenance import HAS_INDEX, add_index

ROWS = 100_000
LOOK_AGAIN_S = 1.0

# So many rows take longer than a statement of a request may.
PATIENTLY = b"SET LOCAL statement_timeout = '30s'"
GROW = """INSERT INTO {table} (id, name) SELECT -number, '~' || md5(number::text)
FROM generate_series(1, %s) AS number ON CONFLICT DO NOTHING"""
LOSE = "ALTER TABLE {table} DROP CONSTRAINT {index}"
SHRINK = "DELETE FROM {table} WHERE id < 0"


def missing_index(faults: Faults, store: Store) -> BackgroundFault:
    """Give the fault. A wipe makes new tables, with an index: so it is looked after each second."""

    def step(strength: float) -> float:
        for table in store.statements:
            with store.connection() as connection, connection.transaction():
                connection.execute(PATIENTLY)
                if connection.execute(HAS_INDEX.encode(), (table,)).fetchone():
                    connection.execute(_of(table, GROW), (round(ROWS * strength),))
                    connection.execute(_of(table, LOSE))
        return LOOK_AGAIN_S

    def undo() -> None:
        for table in store.statements:
            with store.connection() as connection, connection.transaction():
                connection.execute(PATIENTLY)
                add_index(connection, table)
                connection.execute(_of(table, SHRINK))

    return BackgroundFault(faults, MISSING_INDEX, step, undo)


def _of(table: str, text: str) -> bytes:
    names = {"table": sql.Identifier(table), "index": sql.Identifier(f"{table}_pkey")}
    return sql.SQL(text).format(**names).as_bytes(None)
