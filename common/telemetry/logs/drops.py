"""Dropped log lines: a counter by reason, and a few lines on standard error for each outage."""

import json
import sys
import threading
import time
from collections.abc import Callable

from common.core.pacing import RateLimitedLog

LOG_INTERVAL_S = 30.0

Dropped = Callable[[int, str], None]


class DropReporter:
    """Counts drops through `dropped(lines, reason)`, and writes a line when the state of the delivery changes.

    One line when lines begin to wait, one when the first of them is dropped, one when they are accepted again with the
    number that was dropped in between. A delivery that fails now and then reports each twice a minute at most.
    """

    def __init__(self, dropped: Dropped, clock: Callable[[], float] = time.monotonic) -> None:
        self._dropped = dropped
        self._waits = RateLimitedLog(LOG_INTERVAL_S, clock)
        self._drops = RateLimitedLog(LOG_INTERVAL_S, clock)
        self._lock = threading.Lock()
        self._waiting = self._dropping = False
        self._unreported = 0
        self._cause = ""

    def record(self, lines: int, reason: str, cause: str) -> None:
        """Count dropped lines; `reason` is the counter's label, `cause` is for the reader of the line."""
        self._dropped(lines, reason)
        with self._lock:
            self._unreported += lines
            self._cause = cause
            if not self._dropping and self._drops.record():
                self._dropping = True
                self._report_drops()

    def unavailable(self, cause: str) -> None:
        """Report that lines have to wait."""
        with self._lock:
            if not (self._waiting or self._dropping) and self._waits.record():
                self._waiting = True
                _write("warn", f"log lines wait: {cause}")

    def recovered(self) -> None:
        """Report that lines are accepted again; to be called after each delivery that succeeds."""
        if not (self._waiting or self._dropping):
            return
        with self._lock:
            self._waiting = self._dropping = False
            more = f", {self._unreported} more were dropped" if self._unreported else ""
            self._unreported = 0
            _write("info", f"log lines are accepted again{more}")

    def close(self) -> None:
        """Report what is not reported yet."""
        with self._lock:
            if self._unreported:
                self._report_drops()

    def _report_drops(self) -> None:
        _write("warn", f"{self._unreported} log lines dropped: {self._cause}")
        self._unreported = 0


def _write(level: str, text: str) -> None:
    # Not through logging: this is the logging.
    print(f"level={level} msg={json.dumps(text, ensure_ascii=False)}", file=sys.stderr, flush=True)  # noqa: T201
