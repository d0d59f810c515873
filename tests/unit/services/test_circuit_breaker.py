"""The circuit breaker of the server's statements, by a clock that the test moves."""

from services.server.circuit_breaker import OPEN_S, Breaker

TRY_S = 3.0
READ, WRITE = "SELECT name FROM beholder", "INSERT INTO beholder"


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Give the time in seconds."""
        return self.now


def test_all_pass_until_one_waits_in_vain_and_then_none_for_a_moment() -> None:
    """Only the statement that tripped is refused: a table may be locked against writing alone."""
    breaker = Breaker(TRY_S, Clock())
    assert not breaker.refuses(WRITE)
    breaker.trip(WRITE)
    assert breaker.refuses(WRITE)
    assert not breaker.refuses(READ)


def test_after_the_moment_one_tries_and_the_others_wait_for_what_it_finds() -> None:
    """So a table that stays locked holds one turn, not all."""
    clock = Clock()
    breaker = Breaker(TRY_S, clock)
    breaker.trip(WRITE)
    clock.now += OPEN_S
    assert [breaker.refuses(WRITE) for _ in range(3)] == [False, True, True]
    breaker.trip(WRITE)
    assert breaker.refuses(WRITE)


def test_a_try_that_goes_through_lets_all_pass() -> None:
    """Nothing is remembered of what is over."""
    clock = Clock()
    breaker = Breaker(TRY_S, clock)
    breaker.trip(WRITE)
    clock.now += OPEN_S
    assert not breaker.refuses(WRITE)
    breaker.reset(WRITE)
    assert [breaker.refuses(WRITE) for _ in range(3)] == [False, False, False]


def test_a_try_of_which_nothing_is_heard_is_made_again() -> None:
    """Its connection may have broken, which tells nothing about the lock."""
    clock = Clock()
    breaker = Breaker(TRY_S, clock)
    breaker.trip(WRITE)
    clock.now += OPEN_S
    assert not breaker.refuses(WRITE)
    clock.now += TRY_S
    assert not breaker.refuses(WRITE)
