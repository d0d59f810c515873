"""Load shapes by name: the number of users as a pure function of time."""

import math
from collections.abc import Callable
from dataclasses import dataclass

STEPS = 5
SPIKE_BASE, SPIKE_FROM, SPIKE_TO = 0.1, 0.4, 0.6
SOAK_RAMP = 0.05
NIGHT = 0.1


@dataclass(frozen=True)
class ShapeParameters:
    """The maximum number of users, how many start per second, and the duration in seconds."""

    users: int
    rate: float
    time_s: float


Shape = Callable[[float, ShapeParameters], int]


def steady(t_s: float, parameters: ShapeParameters) -> int:
    """All users, as fast as the rate allows."""
    return _whole_users(min(parameters.users, t_s * parameters.rate))


def steps(t_s: float, parameters: ShapeParameters) -> int:
    """Five steps of equal length and height up to all users."""
    step = min(STEPS, 1 + math.floor(STEPS * t_s / parameters.time_s))
    return _whole_users(parameters.users * step / STEPS)


def spike(t_s: float, parameters: ShapeParameters) -> int:
    """A tenth of the users; all of them in the middle fifth of the time; a tenth again, to see the recovery."""
    return _whole_users(parameters.users * (1 if SPIKE_FROM <= t_s / parameters.time_s < SPIKE_TO else SPIKE_BASE))


def soak(t_s: float, parameters: ShapeParameters) -> int:
    """All users for a long time, after a slow start, to find leaks."""
    return _whole_users(parameters.users * min(1.0, t_s / parameters.time_s / SOAK_RAMP))


def day(t_s: float, parameters: ShapeParameters) -> int:
    """A compressed day: quiet at both midnights, a peak at noon and a higher one at eight in the evening."""
    hour = 24 * t_s / parameters.time_s
    noon, evening = _bell_curve(hour, 12, 3.0), _bell_curve(hour, 20, 2.0)
    return _whole_users(parameters.users * (NIGHT + (1 - NIGHT) * max(0.7 * noon, evening)))


def to_break(t_s: float, parameters: ShapeParameters) -> int:
    """A ramp from one user to all; the run breaks where a limit is exceeded."""
    return _whole_users(parameters.users * t_s / parameters.time_s)


# `break` is a Python keyword, so its function has another name.
SHAPES: dict[str, Shape] = {
    "steady": steady,
    "steps": steps,
    "spike": spike,
    "soak": soak,
    "day": day,
    "break": to_break,
}


def users_at(name: str, t_s: float, parameters: ShapeParameters) -> int | None:
    """Return the number of users `t_s` seconds after the start; None when the shape is over."""
    return SHAPES[name](t_s, parameters) if t_s < parameters.time_s else None


@dataclass(frozen=True)
class BreakLimits:
    """Limits of shape `break`: the 95th percentile in milliseconds, and the share of failed requests."""

    p95_ms: float
    error_share: float


def exceeded_limit(p95_ms: float, error_share: float, limits: BreakLimits) -> str | None:
    """Return a sentence about the limit that is exceeded, or None."""
    if p95_ms > limits.p95_ms:
        return f"p95 is {p95_ms:.0f} ms, above {limits.p95_ms:g} ms"
    if error_share > limits.error_share:
        return f"{error_share:.1%} of requests fail, above {limits.error_share:.1%}"
    return None


def _whole_users(users: float) -> int:
    return max(1, round(users))


def _bell_curve(hour: float, peak: float, width: float) -> float:
    return math.exp(-(((hour - peak) / width) ** 2))
