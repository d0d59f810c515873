"""What the server's planted faults do beside its requests: each starts when its fault is set and clears up after it.

Those that change how a request is served are where that happens: in store.py and routes.py.
"""

import time

from common.faults import Faults
from common.faults.background import BackgroundFault
from services.server.config import Database
from services.server.faults.flood import log_flood
from services.server.faults.index import missing_index
from services.server.faults.locks import lock_contention
from services.server.faults.pool import pool_too_small
from services.server.sql_telemetry import StatementTracer
from services.server.store import Pool, Store

CLOSE_S = 1.0


class Planted:
    """The faults of one server that need a thread of their own while they are on."""

    def __init__(self, faults: Faults, database: Database, store: Store, pool: Pool, spans: StatementTracer) -> None:
        self._all: tuple[BackgroundFault, ...] = (
            log_flood(faults),
            missing_index(faults, store),
            lock_contention(faults, database, tuple(store.statements), spans),
            pool_too_small(faults, pool, database.connections),
        )

    def start(self) -> None:
        """Begin with those that are on at start."""
        for each in self._all:
            each.start()

    def close(self) -> None:
        """Stop all and clear up after them, side by side: with a database that hangs, all may take a second."""
        for each in self._all:
            each.close(0)
        deadline = time.monotonic() + CLOSE_S
        for each in self._all:
            each.close(max(deadline - time.monotonic(), 0))
