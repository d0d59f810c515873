"""The fault `pool_too_small`: connections that were taken from the pool and are not given back."""

from typing import Any

import psycopg

from common.faults import POOL_TOO_SMALL, Faults
from common.faults.background import BackgroundFault
from services.server.store import Pool

LOOK_AGAIN_S = 0.5
PATIENCE_S = 2.0


def pool_too_small(faults: Faults, pool: Pool, size: int) -> BackgroundFault:
    """Give the fault: it takes a share of the pool's `size` connections, its strength, but never the last one."""
    taken: list[psycopg.Connection[Any]] = []

    def step(strength: float) -> float:
        wanted = min(round(size * strength), size - 1)
        while len(taken) < wanted:
            taken.append(pool.getconn(PATIENCE_S))
        while len(taken) > wanted:
            pool.putconn(taken.pop())
        return LOOK_AGAIN_S

    def undo() -> None:
        while taken:
            pool.putconn(taken.pop())

    return BackgroundFault(faults, POOL_TOO_SMALL, step, undo)
