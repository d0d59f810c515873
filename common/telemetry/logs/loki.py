"""python-logging-loki made fit for production: lines leave in batches from a thread of their own.

The stock handler sends one blocking request per line, without a time limit. This one puts the record in a bounded
queue (about 10 µs) and returns. Lines that cannot be kept are counted and told, never silently lost.
"""

import gzip
import json
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import requests
from logging_loki import LokiHandler
from logging_loki.emitter import LokiEmitterV1
from opentelemetry.instrumentation.utils import suppress_instrumentation

from common.telemetry.logs import records
from common.telemetry.logs.logfmt import logfmt

QUEUE_LINES = 20_000
BATCH_LINES = 1_000
FLUSH_S = 1.0
# To connect, to answer. As long as OTLP is given: whoever gives up on a slow Loki sends the same lines again, for ever.
TIMEOUT_S = (2.0, 10.0)
BACKOFF_S = (0.5, 10.0)  # first, last
CLOSE_S = 2.5  # less than the three seconds that all telemetry is given, for then nobody would hear what was lost

TOO_MANY_REQUESTS, SERVER_ERROR = 429, 500

Dropped = Callable[[int, str], None]


class Rejected(Exception):
    """Loki understood the push and will not have it: sending it again cannot help."""


class BatchEmitter(LokiEmitterV1):  # type: ignore[misc]  # the package has no types
    """Sends many lines in one push, grouped by their labels."""

    def send(self, batch: Iterable[logging.LogRecord]) -> None:
        """Push the records; raises Rejected, or requests.RequestException where trying again may help."""
        body = gzip.compress(json.dumps(self.build_batch(batch)).encode(), compresslevel=1)
        with suppress_instrumentation():  # a push is not part of any request: it makes no span
            answer = self.session.post(
                self.url,
                data=body,
                headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
                timeout=TIMEOUT_S,
            )
        if answer.status_code == TOO_MANY_REQUESTS or answer.status_code >= SERVER_ERROR:
            raise requests.HTTPError(f"status {answer.status_code}")
        if not answer.ok:
            raise Rejected(f"status {answer.status_code}: {answer.text[:200].strip()}")

    def build_batch(self, batch: Iterable[logging.LogRecord]) -> dict[str, Any]:
        """Give the body of a push; the ids of the span travel as structured metadata, too many for labels.

        Source: Loki HTTP API, POST /loki/api/v1/push.
        """
        streams: dict[tuple[tuple[str, str], ...], list[list[Any]]] = {}
        for record in batch:
            labels = tuple(sorted(self.build_tags(record).items()))
            streams.setdefault(labels, []).append(_entry(record))
        return {"streams": [{"stream": dict(labels), "values": values} for labels, values in streams.items()]}

    def build_tags(self, record: logging.LogRecord) -> dict[str, str]:
        """Give the stream labels of a record."""
        labels = {**self.tags, "level": records.level(record)}
        for name, value in records.tags(record).items():
            labels[self.format_label(name)] = str(value)
        return labels


def _entry(record: logging.LogRecord) -> list[Any]:
    entry: list[Any] = [str(int(record.created * 1e9)), logfmt(records.fields(record))]
    if getattr(record, "trace_id", ""):
        entry.append({"trace_id": record.trace_id, "span_id": record.span_id})  # type: ignore[attr-defined]
    return entry


class BatchLokiHandler(LokiHandler):  # type: ignore[misc]  # the package has no types
    """A LokiHandler that queues; one thread sends.

    `dropped(lines, reason)` is called for lines that are given up: `queue_full`, `rejected`, `unwritable` or
    `shutdown`.
    """

    emitters = {"1": BatchEmitter}  # noqa: RUF012 - the package's own way to say which emitter is used

    def __init__(self, url: str, tags: dict[str, str], dropped: Dropped) -> None:
        super().__init__(url, tags=tags, version="1")
        self._dropped = dropped
        self._queue: deque[logging.LogRecord] = deque()
        self._full = False
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name="loki-push", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record, or count it as dropped when the queue is full: the caller never waits."""
        if len(self._queue) >= QUEUE_LINES:
            self._dropped(1, "queue_full")
            if not self._full:
                self._full = True
                self._tell(f"Loki takes no lines: {QUEUE_LINES} are waiting, further ones are dropped and counted")
            return
        self._queue.append(record)
        if len(self._queue) >= BATCH_LINES:
            self._wake.set()

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Send what is queued, for at most timeout_s seconds; say what could not be sent."""
        if not self._closing.is_set():
            self._deadline = time.monotonic() + timeout_s
            self._closing.set()
            self._wake.set()
            self._thread.join(timeout_s)
            if self._queue:
                self._dropped(len(self._queue), "shutdown")
                self._tell(f"{len(self._queue)} log lines could not be sent to {self.emitter.url} before the end")
        super().close()

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait(FLUSH_S)
            self._wake.clear()
            self._flush()
        self._flush()
        self.emitter.close()

    def _flush(self) -> None:
        """Send what is queued now; lines that come meanwhile wait for the next time, or each push would hold a few."""
        left = len(self._queue)
        while left:
            batch = [self._queue[i] for i in range(min(BATCH_LINES, left))]
            if not self._deliver(batch):
                return
            for _ in batch:
                self._queue.popleft()
            left -= len(batch)

    def _deliver(self, batch: list[logging.LogRecord]) -> bool:
        """Send a batch until it is taken or refused; False when time ran out at the end of the process."""
        pause, longest = BACKOFF_S
        while True:
            try:
                self.emitter.send(batch)
            except Rejected as refusal:
                self._dropped(len(batch), "rejected")
                self._tell(f"Loki refused {len(batch)} log lines: {refusal}")
                return True
            except requests.RequestException:
                if not self._pause(pause):
                    return False
                pause = min(pause * 2, longest)
            except Exception as fault:  # of ours or a caller's: were the thread to die of it, no line would follow
                self._dropped(len(batch), "unwritable")
                self._tell(f"{len(batch)} log lines could not be written: {type(fault).__name__}")
                return True
            else:
                self._full = False
                return True

    def _pause(self, seconds: float) -> bool:
        """Wait before another try, until the end of the process at most; False when there is no time for one."""
        if self._closing.is_set():
            seconds = min(seconds, BACKOFF_S[0])
            time.sleep(seconds)
        else:
            self._closing.wait(seconds)
        return time.monotonic() < self._deadline

    def _tell(self, text: str) -> None:
        # Not through logging: this is the logging.
        print(f"level=warn msg={json.dumps(text)}", file=sys.stderr, flush=True)  # noqa: T201
