"""ConcurrencyLimiter: few requests are worked on at a time, some wait a moment, and all others are refused at once.

Without it every request would wait its turn in one queue that grows for as long as more come than can be served: all of
them would be late, and most of those that are answered at last would have been given up by their callers.
"""

import threading
from collections import deque
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from common.web.problems import answer
from common.web.refusals import RejectedRequests

RETRY_AFTER_S = 1


class Turns:
    """`working` turns, given in the order asked for; at most `waiting` callers wait for one.

    A turn goes from who had it straight to who has waited longest. With a plain semaphore whoever comes by as it is
    released takes it, and those that wait are served late or never.
    """

    def __init__(self, working: int, waiting: int) -> None:
        self._free = working
        self._most = waiting
        self._waiting: deque[threading.Lock] = deque()
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """How many callers wait now."""
        return len(self._waiting)

    def take(self, patience_s: float) -> str | None:
        """Return None with a turn, or why there is none, at the latest after `patience_s` seconds."""
        with self._lock:
            if self._free:
                self._free -= 1
                return None
            if len(self._waiting) >= self._most:
                return "queue_full"
            called = threading.Lock()
            called.acquire()
            self._waiting.append(called)
        if called.acquire(timeout=patience_s):
            return None
        with self._lock:
            if called in self._waiting:
                self._waiting.remove(called)
                return "waited_too_long"
        return None  # called in the very moment of giving up: the turn is ours, and has to be given back

    def give(self) -> None:
        """Pass a turn on."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1


class ConcurrencyLimiter:
    """A WSGI application around another one, of which `working` requests run side by side.

    Up to `waiting` more wait for their turn, each at most `patience_s` seconds. What comes on top or loses patience is
    answered with 503 and Retry-After before it costs anything: no span, no database, no framework.
    """

    def __init__(
        self,
        service: WSGIApplication,
        refusals: RejectedRequests,
        *,
        working: int,
        waiting: int,
        patience_s: float = 1.0,
    ) -> None:
        self._service = service
        self._patience_s = patience_s
        self.turns = Turns(working, waiting)
        self._refusals = refusals
        refusal = answer(503, "Come again: more requests came than can be served.", retry_after_s=RETRY_AFTER_S)
        self._headers, self._body = refusal.headers.to_wsgi_list(), refusal.get_data()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve the request in its turn, or refuse it."""
        refusal = self.turns.take(self._patience_s)
        if refusal is not None:
            return self._refuse(start_response, refusal)
        try:
            return self._service(environ, start_response)
        finally:
            self.turns.give()

    def _refuse(self, start_response: StartResponse, reason: str) -> Iterable[bytes]:
        self._refusals.full(reason)
        start_response("503 Service Unavailable", self._headers)
        return [self._body]
