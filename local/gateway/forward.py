"""Forwards what arrives to an Aspire dashboard, or another receiver of OTLP over HTTP, in a thread of its own."""

import http.client
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from local.gateway.limits import Limits
from local.gateway.loki_to_otlp import export_request, resource_named
from local.gateway.records import LogLine
from local.gateway.telemetry_store import line_size

TIMEOUT_S = 5.0
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 10.0
# How long lines wait for the first traces or metrics of their service, which carry its resource. Without it the
# dashboard shows a service twice: with and without service.instance.id.
RESOURCE_WAIT_S = 10.0
# Lines are batched up to this number, even if a logger pushes them one by one.
LINES_PER_REQUEST = 1000
# How often waiting lines are checked while nothing else happens.
LOOK_AGAIN_S = 0.5
RETRIED = frozenset({408, 429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """One encoded request for `path`, with `items` spans, points or records, that arrived at `arrived` (seconds)."""

    path: str
    body: bytes
    items: int
    arrived: float = 0.0

    @property
    def size(self) -> int:
        """Bytes that it counts as while it waits."""
        return len(self.body)


@dataclass(frozen=True, slots=True)
class Waiting:
    """One log line that is not encoded yet, and arrived at `arrived` (seconds of the forwarder's clock)."""

    line: LogLine
    arrived: float
    items = 1

    @property
    def size(self) -> int:
        """Bytes that it counts as while it waits."""
        return line_size(self.line)


class ReceiverUnavailable(Exception):
    """The receiver answers with a status that asks to send again later."""


class Forwarder:
    """Sends from a bounded queue in its own thread; when the queue is full, the oldest entry is dropped and counted."""

    def __init__(self, url: str, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        """Forward to `url`, the base of OTLP over HTTP such as http://127.0.0.1:4318."""
        self._target = urlsplit(url)
        self._limits = limits
        self._clock = clock
        self._requests: deque[ExportRequest] = deque()
        self._lines: deque[Waiting] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._items = self._bytes = self._sent = self._failed = self._dropped = 0
        self._resources: dict[str, bytes] = {}
        self._connection: http.client.HTTPConnection | None = None
        self._thread = threading.Thread(target=self._run, name="forward", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def request(self, path: str, body: bytes, items: int) -> None:
        """Queue an encoded OTLP request of `items` spans, points or records; return immediately."""
        with self._changed:
            self._put(self._requests, ExportRequest(path, body, items, self._clock()))
            self._changed.notify()

    def lines(self, lines: list[LogLine]) -> None:
        """Queue Loki lines; return immediately."""
        with self._changed:
            now = self._clock()
            for line in lines:
                self._put(self._lines, Waiting(line, now))
            self._changed.notify()

    def remember_resource(self, service: str, resource: bytes) -> None:
        """Store the encoded resource of `service`, to send its Loki lines with."""
        if service in self._resources or len(self._resources) < self._limits.names:
            self._resources[service] = resource

    def figures(self) -> dict[str, int]:
        """Return how many spans, points and lines were sent, rejected by the receiver, dropped, and are waiting."""
        with self._changed:
            return {
                "sent": self._sent,
                "failed": self._failed,
                "dropped": self._dropped,
                "waiting": self._items,
            }

    def close(self, timeout_s: float) -> None:
        """Send what is waiting for at most `timeout_s` seconds, then stop."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _put(self, queue: deque[Any], entry: ExportRequest | Waiting) -> None:
        queue.append(entry)
        self._items += entry.items
        self._bytes += entry.size
        while self._items > self._limits.forward_items or self._bytes > self._limits.forward_bytes:
            queues: list[deque[Any]] = [self._requests, self._lines]
            oldest = min((each for each in queues if each), key=lambda each: float(each[0].arrived))
            self._dropped += self._take(oldest).items

    def _take(self, queue: deque[Any]) -> Any:
        entry = queue.popleft()
        self._items -= entry.items
        self._bytes -= entry.size
        return entry

    def _run(self) -> None:
        pause = FIRST_PAUSE_S
        while (request := self._next()) is not None:
            delivered = None
            while delivered is None:
                try:
                    delivered = self._send(request)
                    pause = FIRST_PAUSE_S
                except (OSError, http.client.HTTPException, ReceiverUnavailable):
                    self._connection = None
                    if self._stopped_within(pause):
                        return
                    pause = min(2 * pause, LONGEST_PAUSE_S)
            with self._changed:
                self._sent += request.items if delivered else 0
                self._failed += 0 if delivered else request.items

    def _stopped_within(self, pause_s: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._stopping, pause_s)

    def _next(self) -> ExportRequest | None:
        """Wait for the next request; None when everything is sent and the forwarder is to stop."""
        with self._changed:
            while True:
                if self._requests:
                    request: ExportRequest = self._take(self._requests)
                    return request
                if lines := self._ready_lines():
                    break
                if self._stopping:
                    return None
                self._changed.wait(LOOK_AGAIN_S if self._lines else None)
        return ExportRequest("/v1/logs", export_request(lines, self._resources), len(lines))

    def _ready_lines(self) -> list[LogLine]:
        """Take the oldest lines whose resource is known, or that waited long enough for it; all if it is stopping."""
        lines: list[LogLine] = []
        while self._lines and len(lines) < LINES_PER_REQUEST:
            oldest = self._lines[0]
            if oldest.line.service not in self._resources:
                if not self._stopping and self._clock() - oldest.arrived < RESOURCE_WAIT_S:
                    break
                # The service sends no traces or metrics; its next lines need not wait.
                self.remember_resource(oldest.line.service, resource_named(oldest.line.service))
            lines.append(self._take(self._lines).line)
        return lines

    def _send(self, request: ExportRequest) -> bool:
        """Return whether the receiver accepted the request. Raises ReceiverUnavailable if it should be sent again."""
        if self._connection is None:
            secure = self._target.scheme == "https"
            kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
            self._connection = kind(self._target.hostname or "", self._target.port, timeout=TIMEOUT_S)
        path = self._target.path.rstrip("/") + request.path
        self._connection.request("POST", path, request.body, {"Content-Type": "application/x-protobuf"})
        response = self._connection.getresponse()
        response.read()
        if response.status in RETRIED:
            raise ReceiverUnavailable
        return HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES
