"""The gauge shows the danger of the last 30 seconds."""

from services.requester.danger_gauge import DangerGauge
from tests.unit.services.recorded import Recorded


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


def test_danger_is_summed_over_30_seconds() -> None:
    """The window slides; it is not reset every 30 seconds."""
    clock = Clock()
    danger = DangerGauge(clock)
    assert danger.level() == 0
    danger.add(153)
    danger.add(1)
    clock.now += 10
    danger.add(23)
    assert danger.level() == 177
    clock.now += 19.9
    assert danger.level() == 177
    clock.now += 0.1
    assert danger.level() == 23
    clock.now += 10
    assert danger.level() == 0


def test_memory_does_not_grow_with_the_rate_or_with_time() -> None:
    """It stores one number per second of the window, independent of the number of requests."""
    clock = Clock()
    danger = DangerGauge(clock)
    for _ in range(1000):
        clock.now += 0.1
        danger.add(1)
    assert len(danger._seconds) <= 30
    assert 290 <= danger.level() <= 300


def test_the_gauge_shows_the_level() -> None:
    """Dashboards query this name; it has no labels."""
    recorded = Recorded()
    danger = DangerGauge(Clock())
    danger.observe(recorded.meter)
    danger.add(32)
    ((labels, point),) = recorded.points("mythical_danger_level_30s")
    assert (labels, point.value) == ({}, 32)
