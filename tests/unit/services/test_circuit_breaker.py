"""The circuit breaker of the server's statements opens and closes by a clock that the test sets."""

from services.server.circuit_breaker import OPEN_S, CircuitBreaker

TRY_S = 3.0
READ, WRITE = "SELECT name FROM beholder", "INSERT INTO beholder"


class Clock:
    """A clock that only a test advances."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


def test_all_statements_pass_until_one_times_out() -> None:
    """Only the statement that failed is rejected, because a table may be locked against writes only."""
    breaker = CircuitBreaker(TRY_S, Clock())
    assert not breaker.is_open(WRITE)
    breaker.record_failure(WRITE)
    assert breaker.is_open(WRITE)
    assert not breaker.is_open(READ)


def test_after_the_open_period_one_statement_is_tried_and_others_are_rejected() -> None:
    """A table that stays locked then blocks one thread, not all."""
    clock = Clock()
    breaker = CircuitBreaker(TRY_S, clock)
    breaker.record_failure(WRITE)
    clock.now += OPEN_S
    assert [breaker.is_open(WRITE) for _ in range(3)] == [False, True, True]
    breaker.record_failure(WRITE)
    assert breaker.is_open(WRITE)


def test_a_successful_trial_closes_the_breaker() -> None:
    """Afterwards, all statements pass."""
    clock = Clock()
    breaker = CircuitBreaker(TRY_S, clock)
    breaker.record_failure(WRITE)
    clock.now += OPEN_S
    assert not breaker.is_open(WRITE)
    breaker.record_success(WRITE)
    assert [breaker.is_open(WRITE) for _ in range(3)] == [False, False, False]


def test_a_trial_without_a_result_is_repeated() -> None:
    """Its connection may have broken, which is independent of the lock."""
    clock = Clock()
    breaker = CircuitBreaker(TRY_S, clock)
    breaker.record_failure(WRITE)
    clock.now += OPEN_S
    assert not breaker.is_open(WRITE)
    clock.now += TRY_S
    assert not breaker.is_open(WRITE)
