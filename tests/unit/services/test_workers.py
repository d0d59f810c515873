"""The loops that make one round after another."""

import random
import threading
import time
from typing import cast

import pytest

from common.core.endpoints import MYTHICAL
from common.faults import Faults
from services.requester.request_round import RequestRound
from services.requester.traffic_plan import Plan, Round
from services.requester.workers import WorkerThreads
from tests.unit.waiting import eventually


class FakeJourney:
    """Counts rounds; fails in them when told so."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.made: list[tuple[str, Round]] = []
        self._failure = failure

    def make(self, planned: Round) -> None:
        """Note who made the round."""
        self.made.append((threading.current_thread().name, planned))
        if self._failure:
            raise self._failure


def loops(journey: FakeJourney, count: int = 1, start_s: float = 0) -> WorkerThreads:
    """WorkerThreads in a great hurry."""
    faults = Faults({}, random.Random(1))  # noqa: S311 - dice, not secrets
    plan = Plan(MYTHICAL, faults, seed=1, rate=100, error_odds=0)
    return WorkerThreads(plan, cast(RequestRound, journey), count=count, start_s=start_s)


def test_a_loop_goes_on_until_it_is_told_to_stop() -> None:
    """And then makes no further round."""
    journey = FakeJourney()
    running = loops(journey)
    running.start()
    eventually(lambda: len(journey.made) >= 10, "rounds")
    running.close()
    made = len(journey.made)
    assert not [thread for thread in threading.enumerate() if thread.name == "loop-0"]
    assert len(journey.made) == made


def test_a_round_that_fails_does_not_end_its_loop(caplog: pytest.LogCaptureFixture) -> None:
    """Fewer requests and no error anywhere would be all one could see of it."""
    journey = FakeJourney(ValueError("a mistake"))
    running = loops(journey)
    running.start()
    eventually(lambda: len(journey.made) >= 3, "rounds")
    running.close()
    assert {record.getMessage() for record in caplog.records} == {"a round failed"}


def test_loops_start_a_second_apart() -> None:
    """The first one starts alone."""
    journey = FakeJourney()
    running = loops(journey, count=3)
    running.start()
    eventually(lambda: len(journey.made) >= 5, "rounds")
    running.close()
    assert {name for name, _ in journey.made} == {"loop-0"}


def test_a_stop_before_the_start_is_immediate() -> None:
    """SIGTERM in the first five seconds."""
    journey = FakeJourney()
    running = loops(journey, count=4, start_s=60)
    running.start()
    before = time.monotonic()
    running.close()
    assert time.monotonic() - before < 2
    assert journey.made == []
    loops(journey).close()  # not even started
