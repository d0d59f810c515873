"""Traces: spans leave in batches over OTLP, from a background thread."""

import os
from collections.abc import Callable, Sequence

from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from common.telemetry.delivery import Answer, Exports, pushing
from common.telemetry.standard_variables import QUEUE_SIZES

Silent = Callable[[], bool]

# Two seconds, where the SDK waits five: in a demo one wants to see the trace of the request one just made.
SCHEDULE_DELAY_MS = 2000

# Spans of ten seconds of a request burst while the collector restarts; about 15 MB when full.
QUEUE_SIZE = QUEUE_SIZES["BSP"]

# The only switch of the SDK's own metrics, read when a processor or a tracer is created; neither has an argument for
# it. It is set for the processor only, because tracers would count each span too.
SELF_METRICS = "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED"

# Source: OpenTelemetry semantic conventions, "SDK metrics"; `error.type` marks the spans that were lost.
EXPORTED = "otel.sdk.exporter.span.exported"


def batch_processor(
    exporter: SpanExporter, meter_provider: MeterProvider, silent: Silent = lambda: False
) -> BatchSpanProcessor:
    """Return the processor that exports spans in batches; while `silent()` is true, an injected fault, none.

    When its queue is full, spans are dropped and counted: `otel.sdk.processor.span.processed` with `error.type`.
    """
    chosen = os.environ.get(SELF_METRICS)
    os.environ[SELF_METRICS] = "true"
    try:
        return BatchSpanProcessor(
            CountingSpanExporter(exporter, meter_provider, silent),
            max_queue_size=_unless_set("OTEL_BSP_MAX_QUEUE_SIZE", QUEUE_SIZE),
            schedule_delay_millis=_unless_set("OTEL_BSP_SCHEDULE_DELAY", SCHEDULE_DELAY_MS),
            meter_provider=meter_provider,
        )
    finally:
        os.environ.pop(SELF_METRICS)
        if chosen is not None:
            os.environ[SELF_METRICS] = chosen


def _unless_set(variable: str, default: int) -> int | None:
    """Return our default, or None where the standard variable is set: then the SDK reads that."""
    return None if os.environ.get(variable) else default


class CountingSpanExporter(SpanExporter):
    """Counts the spans that another exporter delivered, and those that it lost.

    The SDK's processor counts a span as processed when it hands it to the exporter, whatever comes of it; its exporters
    can count too, but over HTTP they count a batch as sent that was answered with an error. A batch that is discarded
    because `silent()` is true does not count as lost.
    """

    def __init__(self, exporter: SpanExporter, meter_provider: MeterProvider, silent: Silent = lambda: False) -> None:
        self._exporter = exporter
        self._silent = silent
        counter = meter_provider.get_meter("opentelemetry-sdk").create_counter(
            EXPORTED, unit="{span}", description="Spans whose export ended; with error.type, those that were lost."
        )
        self._exports = Exports("traces", counter)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export a batch; one whose export raises is counted as lost."""
        if self._silent():
            return SpanExportResult.SUCCESS
        result, answer = SpanExportResult.FAILURE, Answer()
        try:
            with pushing() as answer:
                result = self._exporter.export(spans)
        finally:
            self._exports.record(len(spans), answer, delivered=result is SpanExportResult.SUCCESS)
        return result

    def shutdown(self) -> None:
        """Shut the exporter down."""
        self._exporter.shutdown()
