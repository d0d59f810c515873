"""python-logging-loki made fit for production: a thread of its own sends lines in batches.

The stock handler sends one blocking request per line, without a timeout. This one puts the record in a bounded queue
(about 10 µs) and returns. Lines that do not fit are counted and reported, never lost silently.
"""

import gzip
import json
import logging
import re
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import Any

import requests
from logging_loki import LokiHandler
from logging_loki.emitter import LokiEmitterV1
from opentelemetry.instrumentation.utils import suppress_instrumentation

from common.core.pacing import Backoff
from common.telemetry.delivery import describe, with_headers
from common.telemetry.logs import Dropped, DropReporter, records
from common.telemetry.logs.records import logfmt

QUEUE_LINES = 20_000
BATCH_LINES = 1_000
FLUSH_S = 1.0
# To connect and to read. As long as OTLP's: a shorter timeout would resend batches that Loki has already accepted.
TIMEOUT_S = (2.0, 10.0)
BACKOFF_S = (0.5, 10.0)  # first, longest
CLOSE_S = 2.5  # less than the three seconds for all telemetry, so that drops can still be reported

# How many pushes may be spent on finding the lines of a batch that Loki rejects, where it does not say how many.
PUSHES_APART = 64

DELIVERED, BAD_REQUEST, TIMED_OUT, TOO_LARGE, TOO_MANY_REQUESTS, SERVER_ERROR = 204, 400, 408, 413, 429, 500

# A new stream that exceeds the limit; the limits by rate have the same status, and pass.
STREAM_LIMIT = "active stream limit exceeded"
# Loki keeps the other lines of a push where its text is about single lines. Source: Loki, pkg/validation/validate.go;
# GroupedErrors in pkg/util/errors/errors.go; errorForFailedEntries in pkg/ingester/stream.go.
IGNORED = re.compile(r"total ignored: (\d+) out of (\d+)")
GROUPS = re.compile(r"(?:^|; )(\d+) errors like: ")
ABOUT_A_LINE = re.compile(
    r"entry for stream '.*' has timestamp too |max entry size '|entry (out of order|too far behind)"
    r"|stream '.*' (has structured metadata too large|has too many structured metadata|includes structured metadata)",
    re.DOTALL,
)


class Rejected(Exception):
    """A push that is not accepted however often it is sent.

    `lines` is how many lines of it are lost, None if that is unknown; `apart` is whether parts of it may be accepted.
    """

    def __init__(self, text: str, *, lines: int | None = None, apart: bool = False) -> None:
        super().__init__(text)
        self.lines = lines
        self.apart = apart and lines is None


def rejected_lines(text: str, pushed: int) -> int | None:
    """Return how many of the `pushed` lines Loki rejected by its own text, None if that does not say."""
    if ignored := IGNORED.search(text):
        lost, of_stream = map(int, ignored.groups())
        # The text of the ingester is about one stream, and stands for what else was rejected in the push.
        return lost if of_stream == pushed else None
    _, *grouped = GROUPS.split(text) if GROUPS.match(text) else ("", "1", text)
    known = all(ABOUT_A_LINE.match(message) for message in grouped[1::2])
    return sum(map(int, grouped[::2])) if known else None


class BatchEmitter(LokiEmitterV1):  # type: ignore[misc]  # the package has no types
    """Sends many lines in one push, grouped by their labels."""

    def send(self, batch: Sequence[logging.LogRecord]) -> None:
        """Push the records; raises Rejected, or requests.RequestException where a retry may help.

        Only the status 204 is a delivery: what a login page or another server answers is not.
        """
        body = gzip.compress(json.dumps(self.build_batch(batch)).encode(), compresslevel=1)
        with suppress_instrumentation():  # not part of any request: no span
            response = self.session.post(
                self.url,
                data=body,
                headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
                timeout=TIMEOUT_S,
                allow_redirects=False,
            )
        status = response.status_code
        if status == DELIVERED:
            return
        text = response.text.strip()
        over_limit = status == TOO_MANY_REQUESTS and STREAM_LIMIT in text
        if status >= SERVER_ERROR or (status in (TIMED_OUT, TOO_MANY_REQUESTS) and not over_limit):
            raise requests.HTTPError(describe(response))
        raise Rejected(
            describe(response),
            lines=rejected_lines(text, len(batch)) if status == BAD_REQUEST else None,
            # Loki says why it rejects what it has read.
            apart=over_limit or status == TOO_LARGE or (status == BAD_REQUEST and bool(text)),
        )

    def build_batch(self, batch: Iterable[logging.LogRecord]) -> dict[str, Any]:
        """Return the body of a push; the ids of the span are structured metadata, as they are too many for labels.

        Source: Loki HTTP API, POST /loki/api/v1/push.
        """
        streams: dict[tuple[tuple[str, str], ...], list[list[Any]]] = {}
        for record in batch:
            streams.setdefault(self.stream(record), []).append(_entry(record))
        return {"streams": [{"stream": dict(labels), "values": values} for labels, values in streams.items()]}

    def stream(self, record: logging.LogRecord) -> tuple[tuple[str, str], ...]:
        """Return the labels of a record's stream in the order of their names."""
        return tuple(sorted(self.build_tags(record).items()))

    def build_tags(self, record: logging.LogRecord) -> dict[str, str]:
        """Return the labels of a record's stream by their names."""
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

    def __init__(
        self, url: str, labels: dict[str, str], dropped: Dropped, headers: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Push to `url` with `headers`, such as the tenant and the authorization."""
        super().__init__(url, tags=labels, auth=with_headers(headers), version="1")
        self._drops = DropReporter(dropped)
        self._queue: deque[logging.LogRecord] = deque()
        self._sending = self._pushes_apart = 0
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name="loki-push", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record, or count it as dropped when the queue is full: the caller never waits."""
        if self._waiting() >= QUEUE_LINES:
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
            if waiting := self._waiting():
                self._drops.record(waiting, "shutdown", "Loki did not accept them before the process ended")
            self._drops.close()
        super().close()

    def _waiting(self) -> int:
        """Return how many lines are neither accepted nor dropped yet."""
        return len(self._queue) + self._sending

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
        while left and not self._sending:
            batch = [self._queue.popleft() for _ in range(min(BATCH_LINES, left))]
            self._sending, self._pushes_apart = len(batch), PUSHES_APART
            self._deliver(batch)
            left -= len(batch)

    def _deliver(self, batch: list[logging.LogRecord]) -> bool:
        """Send a batch until it is accepted or rejected; return False if time ran out at the end of the process."""
        backoff = Backoff(*BACKOFF_S)
        while True:
            try:
                self.emitter.send(batch)
            except requests.RequestException as error:
                problem = str(error) if isinstance(error, requests.HTTPError) else type(error).__name__
                self._drops.unavailable(f"Loki is unavailable, {problem}")
                if self._pause(backoff.next()):
                    continue
                return False
            except Rejected as error:
                if error.apart and len(batch) > 1 and self._pushes_apart > 0:
                    return self._deliver_apart(self._streams(batch))
                lost = len(batch) if error.lines is None else min(error.lines, len(batch))
                self._drops.record(lost, "rejected", f"Loki rejected them, {error}")
            except Exception as error:  # ours or a caller's: if it ended the thread, no line would be sent any more
                if len(batch) > 1 and self._pushes_apart > 0:
                    return self._deliver_apart([batch])
                self._drops.record(len(batch), "unwritable", f"they cannot be serialized, {type(error).__name__}")
            else:
                self._drops.recovered()
            self._sending -= len(batch)
            return True

    def _streams(self, batch: list[logging.LogRecord]) -> list[list[logging.LogRecord]]:
        """Return the lines of each stream; Loki's answer is about the last stream of a push, and hides the others."""
        ordered = sorted(batch, key=self.emitter.stream)
        streams = [list(lines) for _, lines in groupby(ordered, self.emitter.stream)]
        return streams if len(streams) <= self._pushes_apart else [ordered]

    def _deliver_apart(self, parts: list[list[logging.LogRecord]]) -> bool:
        """Deliver the parts of a batch, a single one in halves: accepted lines are not lost with the others.

        Loki stores a line only once that it receives again.
        """
        if len(parts) == 1:
            middle = len(parts[0]) // 2
            parts = [parts[0][:middle], parts[0][middle:]]
        self._pushes_apart -= len(parts)
        return all(self._deliver(part) for part in parts)

    def _pause(self, seconds: float) -> bool:
        """Wait before a retry, until the end of the process at most; return False if there is no time for one."""
        if self._closing.is_set():
            time.sleep(min(seconds, BACKOFF_S[0]))
        else:
            self._closing.wait(seconds)
        return time.monotonic() < self._deadline
