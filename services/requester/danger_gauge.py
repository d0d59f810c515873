"""The danger gauge: the danger raised in the last 30 seconds."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable

from opentelemetry.metrics import CallbackOptions, Meter, Observation

WINDOW_S = 30


class DangerGauge:
    """A sum over a sliding window, kept per second so that its memory does not grow with the rate."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seconds: deque[tuple[int, int]] = deque(maxlen=WINDOW_S)
        self._lock = threading.Lock()

    def add(self, danger: int) -> None:
        """Add danger now."""
        with self._lock:
            now = int(self._clock())  # inside the lock, or two threads could append the same second twice
            if self._seconds and self._seconds[-1][0] == now:
                danger += self._seconds.pop()[1]
            self._seconds.append((now, danger))

    def level(self) -> int:
        """Return the danger raised in the last 30 seconds."""
        since = int(self._clock()) - WINDOW_S
        with self._lock:
            return sum(danger for second, danger in self._seconds if second > since)

    def observe(self, meter: Meter) -> None:
        """Register the gauge."""

        def level(_: CallbackOptions) -> Iterable[Observation]:
            yield Observation(self.level())

        meter.create_observable_gauge(
            "mythical_danger_level_30s", [level], description="Danger raised in the last 30 seconds."
        )
