"""A limit on how often a repeated event is logged."""

import threading
import time
from collections.abc import Callable


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
