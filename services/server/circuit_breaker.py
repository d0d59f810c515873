"""A circuit breaker: a statement that waited in vain for a lock is not tried again for a moment, and then once.

Without it one locked table takes the server with it: each request for that table waits a second for the lock, and holds
one of the few turns and connections meanwhile, until none is left for the tables that nobody locked. The pattern is
Michael Nygard's (Release It!, 2007): closed it lets all through, open none, half-open one that tries.
"""

import threading
import time
from collections.abc import Callable

# As long as Retry-After asks callers to stay away.
OPEN_S = 1.0


class CircuitBreaker:
    """One circuit for each statement: reading may go on where writing waits. `try_s` is the longest that one takes.

    `clock` gives seconds.
    """

    def __init__(self, try_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._try_s = try_s
        self._clock = clock
        self._open: dict[str, float] = {}  # until when, by the text of the statement
        self._lock = threading.Lock()

    def is_open(self, text: str) -> bool:
        """Whether a statement is better not tried now; whoever is told False after a trip tries it for all others."""
        if not self._open:  # as good as always, and all that a request then pays
            return False
        with self._lock:
            until = self._open.get(text)
            if until is None:
                return False
            now = self._clock()
            if now < until:
                return True
            self._open[text] = now + self._try_s  # should nothing be heard of this try, the next one is due then
            return False

    def record_failure(self, text: str) -> None:
        """It waited in vain: refuse it for a moment."""
        with self._lock:
            self._open[text] = self._clock() + OPEN_S

    def record_success(self, text: str) -> None:
        """It went through: let all through again."""
        if text in self._open:
            with self._lock:
                self._open.pop(text, None)
