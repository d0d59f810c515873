"""Delays between attempts grow, and a repeated event is logged at intervals."""

from common.core.pacing import Backoff, RateLimitedLog


def test_pauses_double_up_to_the_maximum() -> None:
    """An unavailable server is tried less and less often, but at least every `max_s` seconds."""
    backoff = Backoff(first_s=0.2, max_s=1.0, rng=lambda: 0.0)
    assert [backoff.next() for _ in range(5)] == [0.2, 0.4, 0.8, 1.0, 1.0]


def test_jitter_shortens_a_pause_by_half_at_most() -> None:
    """Clients that lost a server at the same time do not reconnect at the same time."""
    assert Backoff(first_s=1.0, rng=lambda: 1.0).next() == 0.5
    assert 0.5 <= Backoff(first_s=1.0).next() <= 1.0


def test_a_success_resets_the_pause() -> None:
    """The next failure is retried quickly."""
    backoff = Backoff(first_s=0.2, rng=lambda: 0.0)
    for _ in range(4):
        backoff.next()
    backoff.reset()
    assert backoff.next() == 0.2


def test_the_first_event_is_reported_at_once_and_the_others_after_the_interval() -> None:
    """Each event is counted exactly once."""
    now = 0.0
    limit = RateLimitedLog(5.0, lambda: now)
    reported = []
    for _ in range(11):
        reported.append(limit.record())
        now += 1.0
    assert reported == [1, 0, 0, 0, 0, 5, 0, 0, 0, 0, 5]


def test_several_events_can_be_counted_at_once() -> None:
    """A batch of lines is recorded with one call."""
    limit = RateLimitedLog(5.0, lambda: 0.0)
    assert limit.record(7) == 7
