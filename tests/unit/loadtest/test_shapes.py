"""Shapes are functions from time to the number of users."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.shapes import SHAPES, BreakLimits, ShapeParameters, exceeded_limit, users_at

COURSE = ShapeParameters(users=100, rate=10, time_s=100)


def at(name: str, *times_s: float) -> list[int | None]:
    """Return the users of a shape at some times."""
    return [users_at(name, time_s, COURSE) for time_s in times_s]


def test_steady_ramps_up_by_its_rate_and_stays() -> None:
    """Ten users start per second until all are running."""
    assert at("steady", 0, 1, 5, 10, 50, 99) == [1, 10, 50, 100, 100, 100]


def test_steps_are_five_steps_of_equal_height() -> None:
    """A fifth of the users is added after each fifth of the time."""
    assert at("steps", 0, 19, 20, 45, 60, 99) == [20, 20, 40, 60, 80, 100]


def test_a_spike_is_all_users_in_the_middle_fifth() -> None:
    """The number rises and falls at once; before and after, there is a tenth of the users."""
    assert at("spike", 0, 39, 40, 59, 60, 99) == [10, 10, 100, 100, 10, 10]


def test_a_soak_keeps_all_users_after_a_slow_start() -> None:
    """The start takes a twentieth of the time."""
    assert at("soak", 0, 2.5, 5, 99) == [1, 50, 100, 100]


def test_a_day_is_lowest_at_night_and_highest_in_the_evening() -> None:
    """The hours of a day are scaled to the duration of the run."""
    midnight, morning, noon, afternoon, evening = (
        users_at("day", 100 * hour / 24, COURSE) or 0 for hour in (0, 7, 12, 16, 20)
    )
    assert midnight < morning < noon < evening == 100
    assert afternoon < noon
    assert midnight <= 11


def test_break_is_a_ramp_to_all_users() -> None:
    """The server breaks at the number of users at which a limit is exceeded."""
    assert at("break", 0, 25, 50, 99) == [1, 25, 50, 99]


@pytest.mark.parametrize("name", SHAPES)
@given(share=st.floats(0, 2), users=st.integers(1, 10_000), time_s=st.floats(1, 86_400), rate=st.floats(0.01, 1000))
def test_every_shape_has_one_to_all_users_until_its_end(
    name: str, share: float, users: int, time_s: float, rate: float
) -> None:
    """The number is between one and the configured users, and None after the end."""
    now = users_at(name, share * time_s, ShapeParameters(users, rate, time_s))
    if share * time_s >= time_s:
        assert now is None
    else:
        assert now is not None
        assert 1 <= now <= users


@pytest.mark.parametrize(
    ("p95_ms", "error_share", "message"),
    [
        (500, 0.05, None),
        (501, 0, "p95 is 501 ms, above 500 ms"),
        (10, 0.06, "6.0% of requests fail, above 5.0%"),
    ],
)
def test_a_limit_is_exceeded_above_it_and_not_at_it(p95_ms: float, error_share: float, message: str | None) -> None:
    """The message has the value and the limit."""
    assert exceeded_limit(p95_ms, error_share, BreakLimits(500, 0.05)) == message
