"""Log records over OTLP: the same line as everywhere, with its labels as attributes.

The SDK's queue and its exporter do not say how many lines they drop; here each is counted and reported.
"""

import logging
import threading
from collections.abc import Sequence

from opentelemetry import context
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.resources import Resource

from common.telemetry.delivery import UNKNOWN, Answer, is_not_about_a_push, pushing
from common.telemetry.logs import Dropped, DropReporter, records
from common.telemetry.logs.records import logfmt
from common.telemetry.settings import Collector

SEVERITIES = {
    "debug": SeverityNumber.DEBUG,
    "info": SeverityNumber.INFO,
    "warn": SeverityNumber.WARN,
    "error": SeverityNumber.ERROR,
    "fatal": SeverityNumber.FATAL,
}
CLOSE_S = 2.5  # less than the three seconds for all telemetry, so that drops can still be reported


class OtlpHandler(logging.Handler):
    """Passes each record to the SDK, which sends them in batches from a thread of its own.

    `dropped(lines, reason)` is called for lines that are dropped: `queue_full` while `queue_lines` wait or are being
    sent, `export_failed` if the collector did not accept a batch within its timeout, `rejected` for the lines of an
    accepted batch that it rejected, `unwritable` for a line that cannot be formatted, or `shutdown`.
    """

    def __init__(self, resource: Resource, collector: Collector, dropped: Dropped, queue_lines: int) -> None:
        super().__init__()
        self.addFilter(is_not_about_a_push)
        self._drops = DropReporter(dropped)
        self._queue_lines = queue_lines
        self._queued = 0
        self._exporter = _Exporter(collector.exporter("logs"), self._drops)
        self._provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_log_record_processor(BatchLogRecordProcessor(self._exporter, max_queue_size=queue_lines))
        self._closed = False

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record with the current span of this thread; logging serializes the calls."""
        if self._closed:
            return
        if self._waiting() >= self._queue_lines:
            self._drops.record(1, "queue_full", f"{self._queue_lines} wait to be sent over OTLP")
            return
        try:
            body = logfmt(records.fields(record))
            labels = {key: str(value) for key, value in records.labels(record).items()}
        except Exception as error:  # it would end the caller, which only wanted to log
            self._drops.record(1, "unwritable", f"they cannot be serialized, {type(error).__name__}")
            return
        self._queued += 1
        level = records.level(record)
        self._provider.get_logger(record.name).emit(
            LogRecord(
                timestamp=int(record.created * 1e9),
                context=context.get_current(),
                severity_text=level,
                severity_number=SEVERITIES.get(level, SeverityNumber.UNSPECIFIED),
                body=body,
                attributes=labels,
            )
        )

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Send what is queued, for at most timeout_s seconds; count and report what could not be sent.

        The SDK's own shutdown waits half a minute for a collector that does not respond, hence a daemon thread.
        """
        if not self._closed:
            last_push = threading.Thread(target=self._provider.shutdown, name="otlp-logs-close", daemon=True)
            last_push.start()
            last_push.join(timeout_s)
            self._closed = True
            if waiting := self._waiting():
                self._drops.record(waiting, "shutdown", "the collector did not accept them before the process ended")
            self._drops.close()
        super().close()

    def _waiting(self) -> int:
        """Return how many lines the SDK holds."""
        return self._queued - self._exporter.done


class _Exporter(LogRecordExporter):
    """Passes batches to another exporter and counts those that fail."""

    def __init__(self, exporter: LogRecordExporter, drops: DropReporter) -> None:
        self.done = 0
        self._exporter = exporter
        self._drops = drops
        self._cause = UNKNOWN  # kept from batch to batch: the SDK logs it rarely

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        result, answer = LogRecordExportResult.FAILURE, Answer()
        try:
            with pushing() as answer:
                result = self._exporter.export(batch)
        finally:
            if answer.cause != UNKNOWN:
                self._cause = answer.cause
            if result is not LogRecordExportResult.SUCCESS:
                said = (
                    self._cause
                    if self._cause.startswith("Failed to export")
                    else f"Failed to export logs, {self._cause}"
                )
                self._drops.record(len(batch), "export_failed", said)
            elif answer.rejected:
                self._drops.record(min(answer.rejected, len(batch)), "rejected", self._cause)
            else:
                self._drops.recovered()
            self.done += len(batch)
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the SDK has it so

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)
