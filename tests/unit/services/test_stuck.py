"""The fault `stuck_consumer`: who is held, and until when."""

import random
import threading

from common.faults import STUCK_CONSUMER, Faults
from services.recorder.faults import StuckConsumer
from tests.unit.waiting import eventually


def held_by(stuck: StuckConsumer) -> threading.Thread:
    """A thread that asks whether it may go on."""
    thread = threading.Thread(target=stuck.hold, daemon=True)
    thread.start()
    return thread


def faults(strength: float) -> Faults:
    """The fault with that strength at start."""
    return Faults({STUCK_CONSUMER.name: strength}, random.Random(1))  # noqa: S311 - dice, not secrets


def test_nobody_is_held_while_the_fault_is_off() -> None:
    """And none that comes after it was on."""
    shown = faults(0)
    stuck = StuckConsumer(shown)
    stuck.hold()
    shown.set(STUCK_CONSUMER.name, 1, 60)
    shown.clear()
    stuck.hold()


def test_all_go_on_when_the_fault_is_off() -> None:
    """However often it was on: those of the second time are not let go by the end of the first."""
    shown = faults(0)
    stuck = StuckConsumer(shown)
    for _ in range(2):
        shown.set(STUCK_CONSUMER.name, 1, 60)
        threads = [held_by(stuck) for _ in range(3)]
        threads[0].join(0.05)
        assert all(thread.is_alive() for thread in threads)
        shown.clear()
        eventually(lambda threads=threads: not any(thread.is_alive() for thread in threads), "end of the threads")  # type: ignore[misc]


def test_a_fault_that_is_on_at_start_holds_and_lets_go_as_well() -> None:
    """Set to 0 from outside, as a learner does to prove that it was the cause."""
    shown = faults(1)
    thread = held_by(StuckConsumer(shown))
    thread.join(0.05)
    assert thread.is_alive()
    shown.set(STUCK_CONSUMER.name, 0, 60)
    eventually(lambda: not thread.is_alive(), "end of the thread")
