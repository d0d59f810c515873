"""The fault `lock_contention`: someone who counts the rows of a table, and lets nobody change it meanwhile."""

import time

import psycopg
from psycopg import sql

from common.faults import LOCK_CONTENTION, Faults
from common.faults.background import BackgroundFault
from services.server.config import Database
from services.server.sql_telemetry import StatementTracer
from services.server.statements import Statement

# Held for less than the time that a statement waits for a lock, so that those who wait get their turn.
HELD_S, FREE_S = 0.8, 0.2


def lock_contention(
    faults: Faults, database: Database, tables: tuple[str, ...], spans: StatementTracer
) -> BackgroundFault:
    """Give the fault: all tables are locked at once for 0.8 s of each second, times its strength.

    It has a connection of its own, outside the pool: the pool is not what is short.
    """
    names = sql.SQL(", ").join(map(sql.Identifier, tables)).as_string(None)
    lock = Statement("LOCK", "all", f"LOCK TABLE {names} IN SHARE MODE")

    def step(strength: float) -> float:
        who = {**database.address, "application_name": "mythical-report", "connect_timeout": 3}
        with psycopg.connect(**who) as connection, spans.trace(lock):
            connection.execute(lock.text.encode())
            time.sleep(HELD_S * strength)  # the lock is let go of with the transaction, at the end of the block
        return FREE_S + HELD_S * (1 - strength)

    return BackgroundFault(faults, LOCK_CONTENTION, step)
