"""Faults of the server and the recorder that use threads start, stop, and release their threads."""

import random
import threading
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from common.faults import MISSING_INDEX, POOL_TOO_SMALL, STUCK_CONSUMER, Faults
from services.recorder.faults import StuckConsumer
from services.server import faults as server_faults
from services.server.config import Database
from services.server.sql_telemetry import StatementTracer
from services.server.store import Pool, Store
from tests.unit.waiting import eventually


def test_hanging_faults_delay_the_shutdown_by_one_second_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one second each, no time would be left to send telemetry before the process is killed.

    The test allows three seconds, because a busy machine adds to the time.
    """
    monkeypatch.setattr(server_faults, "CLOSE_S", 3.0)
    hanging, release, started = threading.Event(), threading.Event(), list[str]()
    names = {MISSING_INDEX.name, POOL_TOO_SMALL.name}

    def hang(*_: object) -> Any:
        started.append(threading.current_thread().name)
        if len(started) == 2:
            hanging.set()
        release.wait(60)
        raise OSError("released")

    database = Database("127.0.0.1", 1, "user", "", "none", connections=4, statement_timeout_ms=1000)
    store = SimpleNamespace(statements={"unicorn": None}, connection=hang)
    pool = SimpleNamespace(getconn=hang)
    faults = Faults({MISSING_INDEX.name: 1, POOL_TOO_SMALL.name: 1}, random.Random(1))  # noqa: S311 - not for secrets
    background_faults = server_faults.BackgroundFaults(
        faults, database, cast(Store, store), cast(Pool, pool), cast(StatementTracer, None)
    )
    background_faults.start()
    assert hanging.wait(60)
    before = time.monotonic()
    background_faults.close()
    took_s = time.monotonic() - before
    release.set()
    eventually(lambda: names.isdisjoint(thread.name for thread in threading.enumerate()), "end of the threads")
    assert set(started) == names
    assert 2.9 < took_s < 5.9


def held_by(stuck: StuckConsumer) -> threading.Thread:
    """Start and return a thread that calls hold()."""
    thread = threading.Thread(target=stuck.hold, daemon=True)
    thread.start()
    return thread


def stuck_faults(strength: float) -> Faults:
    """Return the fault stuck_consumer with that startup value."""
    return Faults({STUCK_CONSUMER.name: strength}, random.Random(1))  # noqa: S311 - not for secrets


def test_no_thread_is_held_while_the_fault_is_off() -> None:
    """This also holds after the fault was on."""
    shown = stuck_faults(0)
    stuck = StuckConsumer(shown)
    stuck.hold()
    shown.set(STUCK_CONSUMER.name, 1, 60)
    shown.clear()
    stuck.hold()


def test_all_threads_continue_when_the_fault_is_turned_off() -> None:
    """It can be turned on repeatedly: the end of the first time does not release the threads of the second."""
    shown = stuck_faults(0)
    stuck = StuckConsumer(shown)
    for _ in range(2):
        shown.set(STUCK_CONSUMER.name, 1, 60)
        threads = [held_by(stuck) for _ in range(3)]
        threads[0].join(0.05)
        assert all(thread.is_alive() for thread in threads)
        shown.clear()
        eventually(lambda threads=threads: not any(thread.is_alive() for thread in threads), "end of the threads")  # type: ignore[misc]


def test_a_fault_that_is_on_at_startup_holds_and_releases_threads() -> None:
    """A learner sets it to 0 to prove that it was the cause."""
    shown = stuck_faults(1)
    thread = held_by(StuckConsumer(shown))
    thread.join(0.05)
    assert thread.is_alive()
    shown.set(STUCK_CONSUMER.name, 0, 60)
    eventually(lambda: not thread.is_alive(), "end of the thread")
