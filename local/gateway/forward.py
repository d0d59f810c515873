"""Hands what arrives on to an Aspire dashboard, or anything else that takes OTLP over HTTP, off the receive path."""

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
from local.gateway.loki_to_otlp import export_request, named
from local.gateway.records import LogLine
from local.gateway.window import line_size

TIMEOUT_S = 5.0
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 10.0
# So long lines wait for the first traces or metrics of their service, which carry its resource. Without it the
# dashboard shows a service twice: once with and once without service.instance.id.
INTRODUCTION_S = 10.0
# Lines are gathered up to this number into one request; a logger that pushes each line alone costs no request each.
LINES_PER_REQUEST = 1000
# How often waiting lines are looked at while nothing else happens.
LOOK_AGAIN_S = 0.5
RETRIED = frozenset({408, 429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Parcel:
    """One encoded request for `path`, of `items` spans, points or records; it came at `arrived`, in seconds."""

    path: str
    body: bytes
    items: int
    arrived: float = 0.0

    @property
    def size(self) -> int:
        """Bytes it takes while it waits."""
        return len(self.body)


@dataclass(frozen=True, slots=True)
class Waiting:
    """One log line that is still to be encoded; it came at `arrived`, in seconds of the forwarder's clock."""

    line: LogLine
    arrived: float
    items = 1

    @property
    def size(self) -> int:
        """Bytes it takes while it waits."""
        return line_size(self.line)


class Away(Exception):
    """The other side answers, but cannot take anything now."""


class Forwarder:
    """Sends from a bounded queue in a thread of its own; the oldest is dropped, and counted, when the queue is full."""

    def __init__(self, url: str, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        """Forward to `url`, the base of OTLP over HTTP such as http://127.0.0.1:4318."""
        self._target = urlsplit(url)
        self._limits = limits
        self._clock = clock
        self._parcels: deque[Parcel] = deque()
        self._lines: deque[Waiting] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._items = self._bytes = self._sent = self._failed = self._dropped = 0
        self._resources: dict[str, bytes] = {}
        self._connection: http.client.HTTPConnection | None = None
        self._thread = threading.Thread(target=self._run, name="forward", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def request(self, path: str, body: bytes, items: int) -> None:
        """Queue an encoded OTLP request of `items` spans, points or records; returns at once."""
        with self._changed:
            self._put(self._parcels, Parcel(path, body, items, self._clock()))
            self._changed.notify()

    def lines(self, lines: list[LogLine]) -> None:
        """Queue Loki lines; returns at once."""
        with self._changed:
            now = self._clock()
            for line in lines:
                self._put(self._lines, Waiting(line, now))
            self._changed.notify()

    def introduce(self, service: str, resource: bytes) -> None:
        """Remember the encoded resource that `service` describes itself with, for its Loki lines."""
        if service in self._resources or len(self._resources) < self._limits.names:
            self._resources[service] = resource

    def figures(self) -> dict[str, int]:
        """How many spans, points and lines were sent, refused by the other side, dropped, and are waiting."""
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

    def _put(self, queue: deque[Any], entry: Parcel | Waiting) -> None:
        queue.append(entry)
        self._items += entry.items
        self._bytes += entry.size
        while self._items > self._limits.forward_items or self._bytes > self._limits.forward_bytes:
            queues: list[deque[Any]] = [self._parcels, self._lines]
            oldest = min((each for each in queues if each), key=lambda each: float(each[0].arrived))
            self._dropped += self._take(oldest).items

    def _take(self, queue: deque[Any]) -> Any:
        entry = queue.popleft()
        self._items -= entry.items
        self._bytes -= entry.size
        return entry

    def _run(self) -> None:
        pause = FIRST_PAUSE_S
        while (parcel := self._next()) is not None:
            delivered = None
            while delivered is None:
                try:
                    delivered = self._send(parcel)
                    pause = FIRST_PAUSE_S
                except (OSError, http.client.HTTPException, Away):
                    self._connection = None
                    if self._stopped_within(pause):
                        return
                    pause = min(2 * pause, LONGEST_PAUSE_S)
            with self._changed:
                self._sent += parcel.items if delivered else 0
                self._failed += 0 if delivered else parcel.items

    def _stopped_within(self, pause_s: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self._stopping, pause_s)

    def _next(self) -> Parcel | None:
        """Wait for the next thing to send; None when all is sent and the forwarder is to stop."""
        with self._changed:
            while True:
                if self._parcels:
                    parcel: Parcel = self._take(self._parcels)
                    return parcel
                if lines := self._ready_lines():
                    break
                if self._stopping:
                    return None
                self._changed.wait(LOOK_AGAIN_S if self._lines else None)
        return Parcel("/v1/logs", export_request(lines, self._resources), len(lines))

    def _ready_lines(self) -> list[LogLine]:
        """The oldest lines whose services are known, or waited long enough to be known, or as the forwarder stops."""
        lines: list[LogLine] = []
        while self._lines and len(lines) < LINES_PER_REQUEST:
            oldest = self._lines[0]
            if oldest.line.service not in self._resources:
                if not self._stopping and self._clock() - oldest.arrived < INTRODUCTION_S:
                    break
                # It sends no traces or metrics; its next lines need not wait.
                self.introduce(oldest.line.service, named(oldest.line.service))
            lines.append(self._take(self._lines).line)
        return lines

    def _send(self, parcel: Parcel) -> bool:
        """Whether the other side took the parcel; raises if it is away, so that it can be sent again."""
        if self._connection is None:
            secure = self._target.scheme == "https"
            kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
            self._connection = kind(self._target.hostname or "", self._target.port, timeout=TIMEOUT_S)
        path = self._target.path.rstrip("/") + parcel.path
        self._connection.request("POST", path, parcel.body, {"Content-Type": "application/x-protobuf"})
        response = self._connection.getresponse()
        response.read()
        if response.status in RETRIED:
            raise Away
        return HTTPStatus.OK <= response.status < HTTPStatus.MULTIPLE_CHOICES
