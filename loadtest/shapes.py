"""Shapes of load by name: how many users there are at a time, as pure functions of time."""

import math
from collections.abc import Callable
from dataclasses import dataclass

STEPS = 5
SPIKE_BASE, SPIKE_FROM, SPIKE_TO = 0.1, 0.4, 0.6
SOAK_RAMP = 0.05
NIGHT = 0.1


@dataclass(frozen=True)
class Course:
    """What a shape is stretched over: the most users, how many of them start per second, and its length in seconds."""

    users: int
    rate: float
    time_s: float


Shape = Callable[[float, Course], int]


def steady(t_s: float, course: Course) -> int:
    """All users, as soon as the rate lets them start."""
    return _at_least_one(min(course.users, t_s * course.rate))


def steps(t_s: float, course: Course) -> int:
    """Five stairs of equal length and height up to all users."""
    stair = min(STEPS, 1 + math.floor(STEPS * t_s / course.time_s))
    return _at_least_one(course.users * stair / STEPS)


def spike(t_s: float, course: Course) -> int:
    """A tenth of the users; all of them in the middle fifth of the time; a tenth again, to see the recovery."""
    return _at_least_one(course.users * (1 if SPIKE_FROM <= t_s / course.time_s < SPIKE_TO else SPIKE_BASE))


def soak(t_s: float, course: Course) -> int:
    """All users for long, after a slow start: what leaks, shows."""
    return _at_least_one(course.users * min(1.0, t_s / course.time_s / SOAK_RAMP))


def day(t_s: float, course: Course) -> int:
    """Twenty-four hours in the time there is: quiet at both midnights, a peak at noon and a higher one at eight."""
    hour = 24 * t_s / course.time_s
    noon, evening = _hill(hour, 12, 3.0), _hill(hour, 20, 2.0)
    return _at_least_one(course.users * (NIGHT + (1 - NIGHT) * max(0.7 * noon, evening)))


def to_break(t_s: float, course: Course) -> int:
    """A ramp from one user to all: where a line is crossed on the way is where it breaks."""
    return _at_least_one(course.users * t_s / course.time_s)


# `break` is a word of the language, so its function has another name.
SHAPES: dict[str, Shape] = {
    "steady": steady,
    "steps": steps,
    "spike": spike,
    "soak": soak,
    "day": day,
    "break": to_break,
}


def users_at(name: str, t_s: float, course: Course) -> int | None:
    """Give how many users there should be `t_s` seconds after the start; None when the shape is over."""
    return SHAPES[name](t_s, course) if t_s < course.time_s else None


@dataclass(frozen=True)
class Lines:
    """What must not be crossed: the 95th percentile in milliseconds, and the share of requests that fail."""

    p95_ms: float
    error_share: float


def crossed(p95_ms: float, error_share: float, lines: Lines) -> str | None:
    """Say which line is crossed, and by how much, or None."""
    if p95_ms > lines.p95_ms:
        return f"p95 is {p95_ms:.0f} ms, above {lines.p95_ms:g} ms"
    if error_share > lines.error_share:
        return f"{error_share:.1%} of requests fail, above {lines.error_share:.1%}"
    return None


def _at_least_one(users: float) -> int:
    return max(1, round(users))


def _hill(hour: float, peak: float, width: float) -> float:
    return math.exp(-(((hour - peak) / width) ** 2))
