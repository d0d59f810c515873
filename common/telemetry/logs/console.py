"""Log lines on standard output, for containers whose platform collects what they print."""

import logging
from datetime import UTC, datetime

from common.telemetry.logs import records
from common.telemetry.logs.logfmt import logfmt


class LogfmtFormatter(logging.Formatter):
    """Writes a record as one logfmt line that starts with its time and level, which in Loki stand beside the line."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the line."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        head = {"time": when, "level": records.level(record)}
        return logfmt({**head, **records.tags(record), **records.fields(record)})
