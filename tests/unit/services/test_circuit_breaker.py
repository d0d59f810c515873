"""The circuit breaker of the server's statements, by a clock that the test moves."""

from services.server.circuit_breaker import OPEN_S, CircuitBreaker

TRY_S = 3.0
READ, WRITE = "SELECT name FROM beholder", "INSERT INTO beholder"


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


def test_all_pass_until_one_times_out_and_then_none_for_a_moment() -> None:
    """Only the statement that failed is rejected: a table may be locked against writes alone."""
    breaker = CircuitBreaker(TRY_S, Clock())
    assert not breaker.is_open(WRITE)
    breaker.record_failure(WRITE)
    assert breaker.is_open(WRITE)
    assert not breaker.is_open(READ)


def test_after_the_moment_one_tries_and_the_others_wait_for_its_result() -> None:
    """So a table that stays locked occupies one thread, not all."""
    clock = Clock()
    breaker = CircuitBreaker(TRY_S, clock)
    breaker.record_failure(WRITE)
    clock.now += OPEN_S
    assert [breaker.is_open(WRITE) for _ in range(3)] == [False, True, True]
    breaker.record_failure(WRITE)
    assert breaker.is_open(WRITE)


def test_a_try_that_goes_through_lets_all_pass() -> None:
    """Nothing is remembered of what is over."""
    clock = Clock()
    breaker = CircuitBreaker(TRY_S, clock)
    breaker.record_failure(WRITE)
    clock.now += OPEN_S
    assert not breaker.is_open(WRITE)
    breaker.record_success(WRITE)
    assert [breaker.is_open(WRITE) for _ in range(3)] == [False, False, False]


def test_a_trial_without_a_result_is_repeated() -> None:
    """Its connection may have broken, which says nothing about the lock."""
    clock = Clock()
    breaker = CircuitBreaker(TRY_S, clock)
    breaker.record_failure(WRITE)
    clock.now += OPEN_S
    assert not breaker.is_open(WRITE)
    clock.now += TRY_S
    assert not breaker.is_open(WRITE)
