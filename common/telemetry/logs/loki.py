"""python-logging-loki made fit for production: a thread of its own sends lines in batches.

The stock handler sends one blocking request per line, without a timeout. This one puts the record in a bounded queue
(about 10 µs) and returns. Lines that do not fit are counted and reported, never lost silently.
"""

import gzip
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

import requests
from logging_loki import LokiHandler
from logging_loki.emitter import LokiEmitterV1
from opentelemetry.instrumentation.utils import suppress_instrumentation

from common.core.pacing import Backoff
from common.telemetry.logs import Dropped, DropReporter, records
from common.telemetry.logs.records import logfmt

QUEUE_LINES = 20_000
BATCH_LINES = 1_000
FLUSH_S = 1.0
# To connect and to read. As long as OTLP's: a shorter timeout would resend batches that Loki has already accepted.
TIMEOUT_S = (2.0, 10.0)
BACKOFF_S = (0.5, 10.0)  # first, longest
CLOSE_S = 2.5  # less than the three seconds for all telemetry, so that drops can still be reported

TOO_MANY_REQUESTS, SERVER_ERROR = 429, 500


class Rejected(Exception):
    """Loki rejected the push for good: sending it again does not help."""


class BatchEmitter(LokiEmitterV1):  # type: ignore[misc]  # the package has no types
    """Sends many lines in one push, grouped by their labels."""

    def send(self, batch: Iterable[logging.LogRecord]) -> None:
        """Push the records; raises Rejected, or requests.RequestException where a retry may help."""
        body = gzip.compress(json.dumps(self.build_batch(batch)).encode(), compresslevel=1)
        with suppress_instrumentation():  # not part of any request: no span
            response = self.session.post(
                self.url,
                data=body,
                headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
                timeout=TIMEOUT_S,
            )
        if response.status_code == TOO_MANY_REQUESTS or response.status_code >= SERVER_ERROR:
            raise requests.HTTPError(f"status {response.status_code}")
        if not response.ok:
            raise Rejected(f"status {response.status_code}: {response.text[:200].strip()}")

    def build_batch(self, batch: Iterable[logging.LogRecord]) -> dict[str, Any]:
        """Return the body of a push; the ids of the span are structured metadata, as they are too many for labels.

        Source: Loki HTTP API, POST /loki/api/v1/push.
        """
        streams: dict[tuple[tuple[str, str], ...], list[list[Any]]] = {}
        for record in batch:
            labels = tuple(sorted(self.build_tags(record).items()))
            streams.setdefault(labels, []).append(_entry(record))
        return {"streams": [{"stream": dict(labels), "values": values} for labels, values in streams.items()]}

    def build_tags(self, record: logging.LogRecord) -> dict[str, str]:
        """Return the stream labels of a record."""
        labels = {**self.tags, "level": records.level(record)}
        for name, value in records.labels(record).items():
            labels[self.format_label(name)] = str(value)
        return labels


def _entry(record: logging.LogRecord) -> list[Any]:
    entry: list[Any] = [str(int(record.created * 1e9)), logfmt(records.fields(record))]
    if getattr(record, "trace_id", ""):
        entry.append({"trace_id": record.trace_id, "span_id": record.span_id})  # type: ignore[attr-defined]
    return entry


class BatchLokiHandler(LokiHandler):  # type: ignore[misc]  # the package has no types
    """A LokiHandler that queues; one thread sends.

    `dropped(lines, reason)` is called for lines that are dropped: `queue_full`, `rejected`, `unwritable` or `shutdown`.
    """

    emitters = {"1": BatchEmitter}  # noqa: RUF012 - the package's hook to choose the emitter

    def __init__(self, url: str, labels: dict[str, str], dropped: Dropped) -> None:
        super().__init__(url, tags=labels, version="1")
        self._drops = DropReporter(dropped)
        self._queue: deque[logging.LogRecord] = deque()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name="loki-push", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record, or count it as dropped when the queue is full: the caller never waits."""
        if len(self._queue) >= QUEUE_LINES:
            self._drops.record(1, "queue_full", f"{QUEUE_LINES} wait for Loki")
            return
        self._queue.append(record)
        if len(self._queue) >= BATCH_LINES:
            self._wake.set()

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Send what is queued, for at most timeout_s seconds; count and report what could not be sent."""
        if not self._closing.is_set():
            self._deadline = time.monotonic() + timeout_s
            self._closing.set()
            self._wake.set()
            self._thread.join(timeout_s)
            if self._queue:
                self._drops.record(len(self._queue), "shutdown", "Loki did not accept them before the process ended")
            self._drops.close()
        super().close()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait(FLUSH_S)
            self._wake.clear()
            self._flush()
        self._flush()
        self.emitter.close()

    def _flush(self) -> None:
        """Send what is queued now; lines that are queued meanwhile wait, or each push would hold only a few."""
        left = len(self._queue)
        while left:
            batch = [self._queue[i] for i in range(min(BATCH_LINES, left))]
            if not self._deliver(batch):
                return
            for _ in batch:
                self._queue.popleft()
            left -= len(batch)

    def _deliver(self, batch: list[logging.LogRecord]) -> bool:
        """Send a batch until it is accepted or rejected; return False if time ran out at the end of the process."""
        backoff = Backoff(*BACKOFF_S)
        while True:
            try:
                self.emitter.send(batch)
            except Rejected as error:
                self._drops.record(len(batch), "rejected", f"Loki rejected them, {error}")
                return True
            except requests.RequestException as error:
                problem = str(error) if isinstance(error, requests.HTTPError) else type(error).__name__
                self._drops.unavailable(f"Loki is unavailable, {problem}")
                if not self._pause(backoff.next()):
                    return False
            except Exception as error:  # ours or a caller's: if it ended the thread, no line would be sent any more
                self._drops.record(len(batch), "unwritable", f"they cannot be serialized, {type(error).__name__}")
                return True
            else:
                self._drops.recovered()
                return True

    def _pause(self, seconds: float) -> bool:
        """Wait before a retry, until the end of the process at most; return False if there is no time for one."""
        if self._closing.is_set():
            time.sleep(min(seconds, BACKOFF_S[0]))
        else:
            self._closing.wait(seconds)
        return time.monotonic() < self._deadline
