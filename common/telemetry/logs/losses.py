"""What becomes known of log lines that are given up: a count of each, and now and then a line on standard error."""

import json
import sys
import threading
import time
from collections.abc import Callable

# A collector that is away loses a batch every ten seconds, a full queue a line with each request: one line for many.
TELL_EVERY_S = 30.0

Dropped = Callable[[int, str], None]


class DropReporter:
    """Counts through `dropped(lines, reason)`, and tells of the first loss at once, then at most twice a minute."""

    def __init__(self, dropped: Dropped, clock: Callable[[], float] = time.monotonic) -> None:
        self._dropped = dropped
        self._clock = clock
        self._lock = threading.Lock()
        self._untold = 0
        self._why = ""
        self._next = float("-inf")

    def add(self, lines: int, reason: str, why: str) -> None:
        """Take note of `lines` that are given up; `why` is for whoever reads the line."""
        self._dropped(lines, reason)
        with self._lock:
            self._untold += lines
            self._why = why
            if self._clock() >= self._next:
                self._tell()

    def close(self) -> None:
        """Tell what was not told yet."""
        with self._lock:
            if self._untold:
                self._tell()

    def _tell(self) -> None:
        told = json.dumps(f"{self._untold} log lines lost: {self._why}", ensure_ascii=False)
        # Not through logging: this is the logging.
        print(f"level=warn msg={told}", file=sys.stderr, flush=True)  # noqa: T201
        self._untold = 0
        self._next = self._clock() + TELL_EVERY_S
