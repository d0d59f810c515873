"""The recorder's injected faults, except those that only add delay, which are in message_handler.py."""

import ctypes
import logging
import sys
import threading
import time
from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from common.faults import CLOCK_SHIFT, MEMORY_LEAK, STUCK_CONSUMER, Change, Faults

BYTES_PER_MESSAGE = 32 * 1024
# Well below the container's limit: the leak has to be visible without killing the process.
MAX_BYTES = 48 * 1024 * 1024


class MemoryLeak:
    """The fault `memory_leak`: keeps memory for each message, and frees all of it when the fault is off."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._kept: list[bytearray] = []
        self._bytes = 0
        self._lock = threading.Lock()
        faults.on_change(self._changed)

    def keep(self) -> None:
        """Allocate memory for one message if the fault is on."""
        if not (strength := self._faults.strength(MEMORY_LEAK)):
            return
        size = round(BYTES_PER_MESSAGE * strength)
        with self._lock:
            if self._bytes + size <= MAX_BYTES:
                self._kept.append(bytearray(size))
                self._bytes += size

    def _changed(self, change: Change) -> None:
        if change.fault is MEMORY_LEAK and not change.strength:
            with self._lock:
                self._kept.clear()
                self._bytes = 0
            _release_freed_memory()


def _release_freed_memory() -> None:
    """Make the C library return freed memory to the system; otherwise the process would stay as large as it was."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


class StuckConsumer:
    """The fault `stuck_consumer`: blocks threads that process messages, as a deadlock would, until the fault is off.

    Their messages stay unacknowledged. A recorder that stops meanwhile returns them to the queue, as always.
    """

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._off = threading.Event()
        faults.on_change(self._changed)

    def hold(self) -> None:
        """Return at once, or, if the fault triggers, when it is off."""
        if self._faults.should_trigger(STUCK_CONSUMER):
            self._off.wait()

    def _changed(self, change: Change) -> None:
        if change.fault is STUCK_CONSUMER:
            if change.strength:
                self._off.clear()
            else:
                self._off.set()


class SlowClock(logging.Filter):
    """The fault `clock_shift`: a clock that is late, which also sets the time of the log records that it filters."""

    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self._faults = faults

    def skew_s(self) -> float:
        """Return by how many seconds it is late."""
        return self._faults.strength(CLOCK_SHIFT)

    def time(self) -> float:
        """Return the time in seconds since 1970."""
        return time.time() - self.skew_s()

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record's time; every record passes."""
        record.created -= self.skew_s()
        return True


class SlowClockExporter(SpanExporter):
    """Passes spans on to another exporter, with times by a SlowClock; one call per batch while the fault is off."""

    def __init__(self, exporter: SpanExporter, clock: SlowClock) -> None:
        self._exporter = exporter
        self._clock = clock

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export a batch."""
        if skew_ns := round(self._clock.skew_s() * 1_000_000_000):
            spans = [_set_back(span, skew_ns) for span in spans]
        return self._exporter.export(spans)

    def shutdown(self) -> None:
        """Shut the exporter down."""
        self._exporter.shutdown()


def _set_back(span: ReadableSpan, nanoseconds: int) -> ReadableSpan:
    return ReadableSpan(
        name=span.name,
        context=span.get_span_context(),
        parent=span.parent,
        resource=span.resource,
        attributes=span.attributes,
        events=span.events,
        links=span.links,
        kind=span.kind,
        status=span.status,
        start_time=None if span.start_time is None else span.start_time - nanoseconds,
        end_time=None if span.end_time is None else span.end_time - nanoseconds,
        instrumentation_scope=span.instrumentation_scope,
    )
