"""Requests that were refused before they cost anything: counted, and told of in one line for many."""

import logging
import threading
import time

from opentelemetry.metrics import Meter

log = logging.getLogger(__name__)

TELL_EVERY_S = 5.0


class RejectedRequests:
    """Counts what was refused, by its reason, in `mythical_requests_refused`."""

    def __init__(self, meter: Meter) -> None:
        self._counter = meter.create_counter(
            "mythical_requests_refused",
            unit="{request}",
            description="Requests refused because too many were waiting, or their bodies did not come.",
        )
        self._full, self._slow = _Telling(), _Telling()

    def full(self, reason: str) -> None:
        """Count one that found no place: `queue_full` or `waited_too_long`."""
        self._counter.add(1, {"reason": reason})
        if count := self._full.due():
            log.warning("requests refused, too many are waiting", extra={"fields": {"count": count}})

    def slow(self) -> None:
        """Count one whose body did not come in time."""
        self._counter.add(1, {"reason": "body_too_slow"})
        if count := self._slow.due():
            log.warning("requests refused, their bodies came too slowly", extra={"fields": {"count": count}})


class _Telling:
    """One line in the log for many refusals: a line each would cost more than serving them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._next = 0.0

    def due(self) -> int:
        """Count one; give how many a line has to tell of now, 0 where it is too early for one."""
        with self._lock:
            self._count += 1
            now = time.monotonic()
            if now < self._next:
                return 0
            count, self._count, self._next = self._count, 0, now + TELL_EVERY_S
        return count
