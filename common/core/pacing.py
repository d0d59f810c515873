"""How often something is repeated: the delay between attempts, the limit on lines about the same event."""

import random
import threading
import time
from collections.abc import Callable


class Backoff:
    """Delays that double from `first_s` to `max_s` seconds, each shortened at random by up to half.

    Without the jitter all clients of a server that has just started would reconnect at the same instant.
    """

    def __init__(self, first_s: float = 0.2, max_s: float = 4.0, rng: Callable[[], float] = random.random) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._rng = rng
        self._next_s = first_s

    def next(self) -> float:
        """Return the seconds to wait before the next attempt; the following delay is up to twice as long."""
        delay_s = self._next_s
        self._next_s = min(delay_s * 2, self._max_s)
        return delay_s * (1 - self._rng() / 2)

    def reset(self) -> None:
        """Start again from `first_s`, after a success."""
        self._next_s = self._first_s


class RateLimitedLog:
    """Counts events and decides when a line is due: at once, then at most once per `interval_s` seconds."""

    def __init__(self, interval_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._lock = threading.Lock()
        self._count = 0
        self._next = float("-inf")

    def record(self, count: int = 1) -> int:
        """Count events; return how many a line should report now, or 0 if it is too early for one."""
        with self._lock:
            self._count += count
            now = self._clock()
            if now < self._next:
                return 0
            count, self._count, self._next = self._count, 0, now + self._interval_s
        return count
