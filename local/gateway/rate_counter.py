"""Counters with a recent rate and an age, by name."""

from collections import deque
from collections.abc import Iterator
from typing import Generic, NamedTuple, TypeVar

# Long enough to span the ten-second export interval of metrics and profiles, short enough to show a burst of twelve.
RATE_WINDOW_S = 20.0
OTHER = "(other)"

N = TypeVar("N", bound=NamedTuple)


class RateCounter:
    """How many arrived in total, per second recently, and how long ago the last one did."""

    __slots__ = ("_recent", "count", "first", "last")

    def __init__(self, now: float) -> None:
        self.count = 0
        self.first = now
        self.last = now
        self._recent: deque[tuple[float, int]] = deque()

    def add(self, number: int, now: float) -> None:
        """Count `number` more at time `now` (seconds, monotonic)."""
        self.count += number
        self.last = now
        second = float(int(now))
        if self._recent and self._recent[-1][0] == second:
            number += self._recent.pop()[1]
        self._recent.append((second, number))
        self._forget(now)

    def figures(self, now: float) -> dict[str, float]:
        """Return `count`, `rate_per_s` over the last 20 s (or since the first arrival), and `age_s` of the last one."""
        self._forget(now)
        span = max(1.0, min(RATE_WINDOW_S, now - self.first))
        recent = sum(number for _, number in self._recent)
        return {"count": self.count, "rate_per_s": round(recent / span, 2), "age_s": round(now - self.last, 2)}

    def _forget(self, now: float) -> None:
        while self._recent and self._recent[0][0] < now - RATE_WINDOW_S:
            self._recent.popleft()


class RateCounters(Generic[N]):
    """Counters by name; names beyond `limit` share one, so that invented names cannot fill the memory."""

    def __init__(self, limit: int, other: N) -> None:
        self._limit = limit
        self._other = other
        self._counters: dict[N, RateCounter] = {}

    def add(self, name: N, number: int, now: float) -> None:
        """Count `number` more under `name`."""
        counter = self._counters.get(name)
        if counter is None:
            name = name if len(self._counters) < self._limit else self._other
            counter = self._counters.setdefault(name, RateCounter(now))
        counter.add(number, now)

    def figures(self, now: float) -> Iterator[tuple[N, dict[str, float]]]:
        """Yield each name with its figures, in order of name."""
        for name in sorted(self._counters):
            yield name, self._counters[name].figures(now)
