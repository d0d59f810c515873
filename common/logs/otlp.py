"""Log records over OTLP: the same line as everywhere, with its labels as attributes."""

import logging

from opentelemetry import context, trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource

from common.logs import records
from common.logs.logfmt import logfmt
from common.otlp import Collector

SEVERITIES = {
    "debug": SeverityNumber.DEBUG,
    "info": SeverityNumber.INFO,
    "warn": SeverityNumber.WARN,
    "error": SeverityNumber.ERROR,
    "fatal": SeverityNumber.FATAL,
}


class OtlpHandler(logging.Handler):
    """Hands each record to the SDK, which sends them in batches from a thread of its own."""

    def __init__(self, resource: Resource, collector: Collector) -> None:
        super().__init__()
        self._provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_log_record_processor(BatchLogRecordProcessor(collector.log_exporter()))

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record, under the span that is current on this thread."""
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

    def close(self) -> None:
        """Send what is queued."""
        self._provider.shutdown()
        super().close()
