"""The delays between attempts."""

from common.core.backoff import Backoff


def test_pauses_double_up_to_the_longest() -> None:
    """A server that stays unavailable is asked less and less often, but never less than every `max_s` seconds."""
    backoff = Backoff(first_s=0.2, max_s=1.0, rng=lambda: 0.0)
    assert [backoff.next() for _ in range(5)] == [0.2, 0.4, 0.8, 1.0, 1.0]


def test_jitter_shortens_a_pause_by_half_at_most() -> None:
    """Clients that lost a server together do not reconnect together."""
    assert Backoff(first_s=1.0, rng=lambda: 1.0).next() == 0.5
    assert 0.5 <= Backoff(first_s=1.0).next() <= 1.0


def test_a_success_starts_again_from_the_first_pause() -> None:
    """After a good connection the next loss is answered quickly."""
    backoff = Backoff(first_s=0.2, rng=lambda: 0.0)
    for _ in range(4):
        backoff.next()
    backoff.reset()
    assert backoff.next() == 0.2
