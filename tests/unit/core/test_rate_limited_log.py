"""How often a repeated event is logged."""

from common.core.rate_limited_log import RateLimitedLog


def test_the_first_event_is_reported_at_once_and_the_others_together_after_the_interval() -> None:
    """No event is missing in the sum, and none is reported twice."""
    now = 0.0
    limit = RateLimitedLog(5.0, lambda: now)
    reported = []
    for _ in range(11):
        reported.append(limit.record())
        now += 1.0
    assert reported == [1, 0, 0, 0, 0, 5, 0, 0, 0, 0, 5]


def test_several_events_can_be_counted_at_once() -> None:
    """A batch of lines is one call."""
    limit = RateLimitedLog(5.0, lambda: 0.0)
    assert limit.record(7) == 7
