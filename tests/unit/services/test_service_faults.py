"""The server's faults that work by themselves, as the server ends."""

import random
import threading
import time
from types import SimpleNamespace
from typing import Any, cast

from common.faults import MISSING_INDEX, POOL_TOO_SMALL, Faults
from services.server.config import Database
from services.server.faults import CLOSE_S, BackgroundFaults
from services.server.sql_telemetry import StatementTracer
from services.server.store import Pool, Store
from tests.unit.waiting import eventually


def test_faults_that_hang_hold_up_the_end_for_a_second_together() -> None:
    """Each a second after the other, and telemetry would have no time left before the process is killed."""
    hanging, go, asked = threading.Event(), threading.Event(), list[str]()
    names = {MISSING_INDEX.name, POOL_TOO_SMALL.name}

    def hang(*_: object) -> Any:
        asked.append(threading.current_thread().name)
        if len(asked) == 2:
            hanging.set()
        go.wait(20)
        raise OSError("over")

    database = Database("127.0.0.1", 1, "nobody", "", "none", connections=4, statement_timeout_ms=1000)
    store = SimpleNamespace(statements={"unicorn": None}, connection=hang)
    pool = SimpleNamespace(getconn=hang)
    faults = Faults({MISSING_INDEX.name: 1, POOL_TOO_SMALL.name: 1}, random.Random(1))  # noqa: S311 - dice, not secrets
    background_faults = BackgroundFaults(
        faults, database, cast(Store, store), cast(Pool, pool), cast(StatementTracer, None)
    )
    background_faults.start()
    assert hanging.wait(10)
    before = time.monotonic()
    background_faults.close()
    took_s = time.monotonic() - before
    go.set()
    eventually(lambda: names.isdisjoint(thread.name for thread in threading.enumerate()), "end of the threads")
    assert set(asked) == names
    assert CLOSE_S * 0.9 < took_s < 2 * CLOSE_S
