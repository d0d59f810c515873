"""What became of spans that were handed to an exporter: the SDK's queue counts them as done when it lets go of them.

The SDK's exporters can count by themselves, but over HTTP they take a batch that was answered with an error for sent.
"""

from collections.abc import Sequence

from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

# Source: OpenTelemetry semantic conventions, "SDK metrics"; `error.type` is there for those that were not taken.
EXPORTED = "otel.sdk.exporter.span.exported"
LOST = {"error.type": "export_failed"}


class CountingSpanExporter(SpanExporter):
    """Hands spans on to another exporter and counts those it delivered, and apart from them those that are lost."""

    def __init__(self, exporter: SpanExporter, meters: MeterProvider) -> None:
        self._exporter = exporter
        self._exported = meters.get_meter("opentelemetry-sdk").create_counter(
            EXPORTED, unit="{span}", description="Spans whose export ended, well or, with error.type, not."
        )

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; what it raises is counted as a loss."""
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        finally:
            self._exported.add(len(spans), {} if result is SpanExportResult.SUCCESS else LOST)
        return result

    def shutdown(self) -> None:
        """End the exporter."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Have the exporter send what it holds."""
        return self._exporter.force_flush(timeout_millis)
