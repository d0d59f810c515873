"""The fault `silent_telemetry`: a process that works, and of which no span and no metric is heard.

Muted telemetry is not counted as lost. Metrics are held back in common/telemetry/metrics.py, where they are still
collected: the service's own /metrics endpoint keeps working. The fault's metric is muted too; its log line is not.
"""

from collections.abc import Callable, Sequence

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

Silent = Callable[[], bool]


class MutingSpanExporter(SpanExporter):
    """Hands spans on to another exporter, unless `silent` says otherwise."""

    def __init__(self, exporter: SpanExporter, silent: Silent) -> None:
        self._exporter = exporter
        self._silent = silent

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch, or let it go."""
        return SpanExportResult.SUCCESS if self._silent() else self._exporter.export(spans)

    def shutdown(self) -> None:
        """End the exporter."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Have the exporter send what it holds."""
        return self._exporter.force_flush(timeout_millis)
