"""The fault `clock_shift`: what a process sends bears times of the past, as if its host's clock were slow.

Applied as batches leave, so that it costs one look per batch while the fault is off, and spans keep their length.
"""

import logging
import time
from collections.abc import Callable, Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

ClockSkew = Callable[[], float]  # gives seconds

NANO = 1_000_000_000


class ClockSkewSpanExporter(SpanExporter):
    """Hands spans on to another exporter, set back by what `clock_skew_s` gives."""

    def __init__(self, exporter: SpanExporter, clock_skew_s: ClockSkew) -> None:
        self._exporter = exporter
        self._slow_by = clock_skew_s

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch."""
        seconds = self._slow_by()
        return self._exporter.export([_set_back(span, round(seconds * NANO)) for span in spans] if seconds else spans)

    def shutdown(self) -> None:
        """End the exporter."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Have the exporter send what it holds."""
        return self._exporter.force_flush(timeout_millis)


class ClockSkewFilter(logging.Filter):
    """Sets log records back by what `clock_skew_s` gives."""

    def __init__(self, clock_skew_s: ClockSkew) -> None:
        super().__init__()
        self._slow_by = clock_skew_s

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record's time, and let it pass."""
        if seconds := self._slow_by():
            record.created -= seconds
        return True


def skewed_clock(clock_skew_s: ClockSkew) -> Callable[[], float]:
    """Give a clock that is slow by what `clock_skew_s` gives: seconds since 1970."""
    return lambda: time.time() - clock_skew_s()


def _set_back(span: ReadableSpan, nanoseconds: int) -> ReadableSpan:
    def back(moment: int | None) -> int | None:
        return None if moment is None else moment - nanoseconds

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
        start_time=back(span.start_time),
        end_time=back(span.end_time),
        instrumentation_scope=span.instrumentation_scope,
    )
