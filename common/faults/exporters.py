"""Two injected faults of telemetry itself, applied where it leaves: `silent_telemetry` and `clock_shift`.

Both cost one call per batch while they are off. Muted telemetry is not counted as lost. Muted metrics are still
collected (common/telemetry/metrics.py), so the service's own /metrics endpoint keeps working, and log lines keep
arriving.
"""

import logging
import time
from collections.abc import Callable, Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

Silent = Callable[[], bool]
ClockSkew = Callable[[], float]  # returns seconds

NANOSECONDS = 1_000_000_000


class FaultySpanExporter(SpanExporter):
    """Passes spans on to another exporter: none while `silent()` is true, and late by `clock_skew_s()` seconds."""

    def __init__(
        self, exporter: SpanExporter, silent: Silent | None = None, clock_skew_s: ClockSkew | None = None
    ) -> None:
        self._exporter = exporter
        self._silent = silent
        self._clock_skew_s = clock_skew_s

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export a batch; a muted batch counts as a success."""
        if self._silent and self._silent():
            return SpanExportResult.SUCCESS
        if self._clock_skew_s and (seconds := self._clock_skew_s()):
            spans = [_set_back(span, round(seconds * NANOSECONDS)) for span in spans]
        return self._exporter.export(spans)

    def shutdown(self) -> None:
        """Shut the exporter down."""
        self._exporter.shutdown()


class ClockSkewFilter(logging.Filter):
    """Sets the time of log records back by `clock_skew_s()` seconds."""

    def __init__(self, clock_skew_s: ClockSkew) -> None:
        super().__init__()
        self._clock_skew_s = clock_skew_s

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the record's time; every record passes."""
        if seconds := self._clock_skew_s():
            record.created -= seconds
        return True


def skewed_clock(clock_skew_s: ClockSkew) -> Callable[[], float]:
    """Return a clock, in seconds since 1970, that is late by `clock_skew_s()` seconds."""
    return lambda: time.time() - clock_skew_s()


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
