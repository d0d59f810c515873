"""What a log record says: from Python's record to the fields of a line and the labels of a stream.

A caller writes a constant event text and puts the values beside it:

    log.info("request served", extra={"fields": {"http.method": "GET"}, "tags": {"beast": "unicorn"}})

`fields` become pairs of the line; `tags` become Loki labels, so they may hold only values from a small, known set.
"""

import logging
import traceback
from collections.abc import Mapping
from typing import Any

from opentelemetry import trace

LEVELS = {"WARNING": "warn", "CRITICAL": "fatal"}

# The carriers of log lines: were their own lines logged, each push would cause the next.
CARRIERS = ("urllib3", "requests", "opentelemetry.exporter", "grpc")


class TraceContextFilter(logging.Filter):
    """Adds the ids of the current span to each record, on the thread that logs; drops the carriers' chatter."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Mark the record with `trace_id` and `span_id` (hexadecimal, empty outside a span)."""
        if record.levelno < logging.WARNING and record.name.startswith(CARRIERS):
            return False
        context = trace.get_current_span().get_span_context()
        record.trace_id = f"{context.trace_id:032x}" if context.is_valid else ""
        record.span_id = f"{context.span_id:016x}" if context.is_valid else ""
        return True


def fields(record: logging.LogRecord) -> dict[str, object]:
    """Give the pairs of a record's line: trace ids, the caller's fields, the event text, the exception."""
    pairs: dict[str, object] = {}
    if getattr(record, "trace_id", ""):
        pairs["traceID"] = record.trace_id  # type: ignore[attr-defined]
        pairs["spanID"] = record.span_id  # type: ignore[attr-defined]
    pairs.update(_mapping(record, "fields"))
    pairs["msg"] = _text(record)
    if record.exc_info and record.exc_info[0]:
        pairs["exception.type"] = record.exc_info[0].__qualname__
        pairs["exception.message"] = str(record.exc_info[1])
        pairs["exception.stacktrace"] = "".join(traceback.format_exception(*record.exc_info))
    return pairs


def tags(record: logging.LogRecord) -> Mapping[str, Any]:
    """Give the labels that the caller asked for."""
    return _mapping(record, "tags")


def level(record: logging.LogRecord) -> str:
    """Give the level by the short names that Loki and Grafana know: debug, info, warn, error, fatal."""
    return LEVELS.get(record.levelname, record.levelname.lower())


def _text(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # a wrong log call, of a library perhaps: it must not end the thread that writes the lines
        return str(record.msg)


def _mapping(record: logging.LogRecord, name: str) -> Mapping[str, Any]:
    value = getattr(record, name, None)
    return value if isinstance(value, Mapping) else {}
