"""Worker threads run one round of requests after another."""

import random
import threading
import time
from typing import cast

import pytest

from common.core.endpoints import MYTHICAL
from common.faults import Faults
from services.requester.request_round import RequestRound
from services.requester.traffic_plan import Round, TrafficPlan
from services.requester.workers import WorkerThreads
from tests.unit.waiting import eventually


class FakeRound:
    """Records rounds; raises `failure` in each, if set."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.made: list[tuple[str, Round]] = []
        self.first_at: dict[str, float] = {}
        self._failure = failure

    def run(self, planned: Round) -> None:
        """Record the thread and the round."""
        name = threading.current_thread().name
        self.first_at.setdefault(name, time.monotonic())
        self.made.append((name, planned))
        if self._failure:
            raise self._failure


def loops(request_round: FakeRound, count: int = 1, start_s: float = 0) -> WorkerThreads:
    """Return WorkerThreads with a high rate."""
    faults = Faults({}, random.Random(1))  # noqa: S311 - not for secrets
    plan = TrafficPlan(MYTHICAL, faults, seed=1, rate=100, error_odds=0)
    return WorkerThreads(plan, cast(RequestRound, request_round), count=count, start_s=start_s)


def test_a_loop_continues_until_it_is_stopped() -> None:
    """Then it runs no further round."""
    request_round = FakeRound()
    running = loops(request_round)
    running.start()
    eventually(lambda: len(request_round.made) >= 10, "rounds")
    running.close()
    made = len(request_round.made)
    assert not [thread for thread in threading.enumerate() if thread.name == "loop-0"]
    assert len(request_round.made) == made


def test_a_round_that_fails_does_not_end_its_loop(caplog: pytest.LogCaptureFixture) -> None:
    """Otherwise, fewer requests would be the only symptom."""
    request_round = FakeRound(ValueError("injected"))
    running = loops(request_round)
    running.start()
    eventually(lambda: len(request_round.made) >= 3, "rounds")
    running.close()
    assert {record.getMessage() for record in caplog.records} == {"request round failed"}


def test_loops_start_a_second_apart() -> None:
    """The first one starts alone."""
    request_round = FakeRound()
    running = loops(request_round, count=2)
    before = time.monotonic()
    running.start()
    eventually(lambda: request_round.first_at.keys() == {"loop-0", "loop-1"}, "both loops")
    running.close()
    assert request_round.made[0][0] == "loop-0"
    assert request_round.first_at["loop-1"] - before >= 1


def test_a_stop_before_the_start_is_immediate() -> None:
    """This is a SIGTERM in the first five seconds."""
    request_round = FakeRound()
    running = loops(request_round, count=4, start_s=60)
    running.start()
    before = time.monotonic()
    running.close()
    assert time.monotonic() - before < 60
    assert request_round.made == []
    loops(request_round).close()  # never started
