"""Log records over OTLP: the same line as everywhere, with its labels as attributes.

The SDK's queue and its exporter lose lines without a word of how many; here each is counted, and told of.
"""

import logging
import threading
from collections.abc import Sequence

from opentelemetry import context, trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource

from common.telemetry.logs import records
from common.telemetry.logs.logfmt import logfmt
from common.telemetry.logs.losses import Dropped, DropReporter
from common.telemetry.otlp import Collector

SEVERITIES = {
    "debug": SeverityNumber.DEBUG,
    "info": SeverityNumber.INFO,
    "warn": SeverityNumber.WARN,
    "error": SeverityNumber.ERROR,
    "fatal": SeverityNumber.FATAL,
}
CLOSE_S = 2.5  # less than the three seconds that all telemetry is given, for then nobody would hear what was lost


class OtlpHandler(logging.Handler):
    """Hands each record to the SDK, which sends them in batches from a thread of its own.

    `dropped(lines, reason)` is called for lines that are given up: `queue_full` while `queue_lines` wait or are on
    their way, `export_failed` where the collector did not take a batch within its ten seconds, or `shutdown`.
    """

    def __init__(self, resource: Resource, collector: Collector, dropped: Dropped, queue_lines: int) -> None:
        super().__init__()
        self._losses = DropReporter(dropped)
        self._most = queue_lines
        self._taken = 0
        self._exporter = _Exporter(collector.log_exporter(), self._losses)
        self._provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_log_record_processor(BatchLogRecordProcessor(self._exporter, max_queue_size=queue_lines))
        self._closed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record, under the span that is current on this thread; logging lets one thread in at a time."""
        if self._closed:
            return
        if self._exporter.heard(record):
            return
        if self._waiting() >= self._most:
            self._losses.add(1, "queue_full", f"{self._most} are waiting to be sent over OTLP")
            return
        self._taken += 1
        level = records.level(record)
        self._provider.get_logger(record.name).emit(
            LogRecord(
                timestamp=int(record.created * 1e9),
                context=trace.set_span_in_context(trace.get_current_span(), context.get_current()),
                severity_text=level,
                severity_number=SEVERITIES.get(level, SeverityNumber.UNSPECIFIED),
                body=logfmt(records.fields(record)),
                attributes={key: str(value) for key, value in records.tags(record).items()},
            )
        )

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Send what is queued, for at most timeout_s seconds; count and say what could not be sent.

        The SDK's own shutdown waits half a minute for a collector that does not answer, hence a thread left behind.
        """
        if not self._closed:
            last_push = threading.Thread(target=self._provider.shutdown, name="otlp-logs-close", daemon=True)
            last_push.start()
            last_push.join(timeout_s)
            self._closed = True
            if waiting := self._waiting():
                self._losses.add(waiting, "shutdown", "the collector did not take them before the end")
            self._losses.close()
        super().close()

    def _waiting(self) -> int:
        """How many lines are in the SDK's hands."""
        return self._taken - self._exporter.done


class _Exporter(LogRecordExporter):
    """Hands batches on to another exporter, and takes note of those that are lost."""

    def __init__(self, exporter: LogRecordExporter, losses: DropReporter) -> None:
        self.done = 0
        self._exporter = exporter
        self._losses = losses
        self._thread = 0
        self._why = "the collector did not take them"  # kept from batch to batch, as the SDK says it twice a minute

    def heard(self, record: logging.LogRecord) -> bool:
        """Tell whether the exporter itself logs this: it is the reason of a loss, and would only be lost as well."""
        if threading.get_ident() != self._thread:
            return False
        self._why = record.getMessage()
        return True

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        self._thread = threading.get_ident()
        result = LogRecordExportResult.FAILURE
        try:
            result = self._exporter.export(batch)
        finally:
            self._thread = 0
            if result is not LogRecordExportResult.SUCCESS:
                self._losses.add(len(batch), "export_failed", self._why)
            self.done += len(batch)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the SDK has it so

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)
