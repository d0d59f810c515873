"""ConcurrencyLimiter: process a few requests at a time, let some wait a moment, reject all others at once.

Without it, every request would wait in one queue that grows for as long as more arrive than can be processed: all of
them would be late, and the callers of most would no longer wait for the response.
"""

import logging
import threading
from collections import deque
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from opentelemetry.metrics import Meter

from common.core.pacing import RateLimitedLog
from common.web.problems import problem_response

log = logging.getLogger(__name__)

RETRY_AFTER_S = 1
LOG_INTERVAL_S = 5.0


class FairSemaphore:
    """`permits` permits, granted in the order in which they were asked for; at most `max_queue` callers wait for one.

    A permit passes directly to the caller that has waited longest. With a plain semaphore, a caller that arrives as it
    is released acquires it, and those that wait are served late or never.
    """

    def __init__(self, permits: int, max_queue: int) -> None:
        self._free = permits
        self._max_queue = max_queue
        self._queue: deque[threading.Lock] = deque()
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        """The number of callers that wait."""
        return len(self._queue)

    def acquire(self, timeout_s: float) -> str | None:
        """Return None with a permit, else the reason: `queue_full` at once, `waited_too_long` after the timeout."""
        with self._lock:
            if self._free:
                self._free -= 1
                return None
            if len(self._queue) >= self._max_queue:
                return "queue_full"
            granted = threading.Lock()
            granted.acquire()
            self._queue.append(granted)
        if granted.acquire(timeout=timeout_s):
            return None
        with self._lock:
            if granted in self._queue:
                self._queue.remove(granted)
                return "waited_too_long"
        return None  # granted at the moment of the timeout: the caller has the permit and has to release it

    def release(self) -> None:
        """Return a permit."""
        with self._lock:
            if self._queue:
                self._queue.popleft().release()
            else:
                self._free += 1


class ConcurrencyLimiter:
    """WSGI middleware that processes at most `max_concurrency` requests at a time.

    Up to `max_queue` more wait, each at most `queue_timeout_s` seconds. Any other request is answered with 503 and
    Retry-After before it costs anything (no span, no database, no framework), and counted.
    """

    def __init__(
        self,
        app: WSGIApplication,
        meter: Meter,
        *,
        max_concurrency: int,
        max_queue: int,
        queue_timeout_s: float = 1.0,
    ) -> None:
        self._app = app
        self._queue_timeout_s = queue_timeout_s
        self.semaphore = FairSemaphore(max_concurrency, max_queue)
        self._rejected = meter.create_counter(
            "mythical_requests_rejected",
            unit="{request}",
            description="Requests rejected because too many were in progress.",
        )
        self._log = RateLimitedLog(LOG_INTERVAL_S)
        response = problem_response(
            503, f"Too many requests in progress. Retry after {RETRY_AFTER_S} second.", retry_after_s=RETRY_AFTER_S
        )
        self._headers, self._body = response.headers.to_wsgi_list(), response.get_data()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Process the request in its turn, or reject it."""
        reason = self.semaphore.acquire(self._queue_timeout_s)
        if reason is not None:
            return self._reject(start_response, reason)
        try:
            return self._app(environ, start_response)
        finally:
            self.semaphore.release()

    def _reject(self, start_response: StartResponse, reason: str) -> Iterable[bytes]:
        self._rejected.add(1, {"reason": reason})
        if count := self._log.record():
            log.warning("requests rejected, too many are in progress", extra={"fields": {"count": count}})
        start_response("503 Service Unavailable", self._headers)
        return [self._body]
