"""A circuit breaker: after a lock timeout, a statement is rejected for a moment and then tried once.

Without it, one locked table takes the server down: each request for that table waits a second for the lock and occupies
a thread and a connection meanwhile, until none is left for the tables that are not locked. The pattern is Michael
Nygard's (Release It!, 2007): a closed circuit lets all calls through, an open one none, a half-open one a single trial.
"""

import threading
import time
from collections.abc import Callable

# The same as Retry-After.
OPEN_S = 1.0


class CircuitBreaker:
    """One circuit per statement, so reads continue where writes are blocked.

    `try_s` is the longest that a trial takes, in seconds. `clock` returns seconds.
    """

    def __init__(self, try_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._try_s = try_s
        self._clock = clock
        self._open: dict[str, float] = {}  # when the next trial is due, by the text of the statement
        self._lock = threading.Lock()

    def is_open(self, text: str) -> bool:
        """Return whether to reject a statement. After a failure, one caller gets False: its call is the trial."""
        if not self._open:  # the usual case, without a lock
            return False
        with self._lock:
            until = self._open.get(text)
            if until is None:
                return False
            now = self._clock()
            if now < until:
                return True
            self._open[text] = now + self._try_s  # if this trial reports no result, the next one is due then
            return False

    def record_failure(self, text: str) -> None:
        """Open the circuit: the statement timed out waiting for a lock."""
        with self._lock:
            self._open[text] = self._clock() + OPEN_S

    def record_success(self, text: str) -> None:
        """Close the circuit."""
        if text in self._open:
            with self._lock:
                self._open.pop(text, None)
