"""From Python's log record to a line in logfmt and the labels of a stream.

A caller passes a constant event text and the values apart from it:

    log.info("request served", extra={"fields": {"http.method": "GET"}, "tags": {"beast": "unicorn"}})

`fields` become pairs of the line; `tags`, as python-logging-loki calls them, become Loki labels, so they may hold only
values from a small, fixed set. `json_fields` are only in lines of JSON, which other programs write with these names.
"""

import json
import logging
import re
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from opentelemetry import trace

LEVELS = {"WARNING": "warn", "CRITICAL": "fatal"}

# Keys in lines of JSON that differ from those in logfmt.
JSON_NAMES = {"http.method": "method"}

# The libraries that transport log lines: if their own lines were sent, each push would cause the next.
TRANSPORT_LOGGERS = ("urllib3", "requests", "opentelemetry.exporter", "grpc")

# The SDK's line for each text that it cuts, as the limit for attributes asks.
TRUNCATED = "String attribute value exceeds max length of %d, truncating."

# What may stand bare. Anything else is quoted: a space would end the value, a quote would open one, `=` would make a
# new pair, and control characters would forge lines or colour terminals.
_BARE = re.compile(r"[A-Za-z0-9_./:@%+,;<>()\[\]{}|~^!?*&#$-]+\Z")
_NOT_KEY = re.compile(r"[^A-Za-z0-9_.-]")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_UNSAFE = re.compile(r'["\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')


class TraceContextFilter(logging.Filter):
    """Adds the ids of the current span to each record.

    Drops what the transports log below WARNING, and the lines about each text that the SDK cuts.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Set `trace_id` and `span_id` (hexadecimal, empty outside a span), on the thread that logs."""
        if record.levelno < logging.WARNING and record.name.startswith(TRANSPORT_LOGGERS):
            return False
        if record.msg == TRUNCATED:
            return False
        context = trace.get_current_span().get_span_context()
        record.trace_id = f"{context.trace_id:032x}" if context.is_valid else ""
        record.span_id = f"{context.span_id:016x}" if context.is_valid else ""
        return True


class LogfmtFormatter(logging.Formatter):
    """Writes a record as one logfmt line for standard output, with its time, level and labels at the start."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return logfmt(_line(record))


class JsonFormatter(logging.Formatter):
    """Writes a record as one line of JSON for standard output, with the same content as LogfmtFormatter.

    `method`, `path`, and `duration` (in seconds) describe a request. Booleans and numbers keep their types.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        pairs = {JSON_NAMES.get(key, key): value for key, value in _line(record).items() if value is not None}
        return json.dumps({**pairs, **_mapping(record, "json_fields")}, default=str)


def _line(record: logging.LogRecord) -> dict[str, object]:
    when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    head = {"time": when, "level": level(record)}
    return {**head, **labels(record), **fields(record)}


def fields(record: logging.LogRecord) -> dict[str, object]:
    """Return the pairs of a record's line: trace ids, the caller's fields, the event text, the exception."""
    pairs: dict[str, object] = {}
    if getattr(record, "trace_id", ""):
        pairs["traceID"] = record.trace_id  # type: ignore[attr-defined]
        pairs["spanID"] = record.span_id  # type: ignore[attr-defined]
    pairs.update(_mapping(record, "fields"))
    pairs["msg"] = _text(record)
    if record.exc_info and record.exc_info[0]:
        pairs["exception.type"] = record.exc_info[0].__qualname__
        pairs["exception.message"] = _message(record.exc_info[1])
        pairs["exception.stacktrace"] = "".join(traceback.format_exception(*record.exc_info))
    return pairs


def with_fields(record: logging.LogRecord) -> bool:
    """Add the caller's fields to the event text, for a handler of another program's: a filter that lets all pass."""
    if more := _mapping(record, "fields"):
        record.msg, record.args, record.fields = f"{_text(record)}: {logfmt(more)}", None, None
    return True


def labels(record: logging.LogRecord) -> Mapping[str, Any]:
    """Return the labels that the caller passed."""
    return _mapping(record, "tags")


def level(record: logging.LogRecord) -> str:
    """Return the level by the short names that Loki and Grafana know: debug, info, warn, error, fatal."""
    return LEVELS.get(record.levelname, record.levelname.lower())


def _text(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # a wrong log call, in a library perhaps: it must not end the thread that writes the lines
        return str(record.msg)


def _message(error: BaseException | None) -> str:
    try:
        return str(error)
    except Exception:  # of another program's exception: the line with its stack trace must not be lost
        return "<no text: __str__ failed>"


def _mapping(record: logging.LogRecord, name: str) -> Mapping[str, Any]:
    value = getattr(record, name, None)
    return value if isinstance(value, Mapping) else {}


def logfmt(fields: Mapping[str, object]) -> str:
    """Write the fields in their order, e.g. `http.method=GET error="name exists"`.

    None is left out, booleans are written true and false, floats with up to six digits. Values are quoted and escaped
    as Go's %q does, which is what Loki's logfmt parser reads (github.com/go-logfmt/logfmt).
    """
    return " ".join(f"{_key(key)}={_value(value)}" for key, value in fields.items() if value is not None)


def _key(key: str) -> str:
    return _NOT_KEY.sub("_", key) or "_"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    if _BARE.match(text):
        return text
    return f'"{_UNSAFE.sub(_escape, text)}"'


def _escape(match: re.Match[str]) -> str:
    char = match.group()
    known = _ESCAPES.get(char)
    if known:
        return known
    # A lone surrogate cannot be written as UTF-8 at all; U+FFFD is what every decoder puts in its place.
    return "\ufffd" if "\ud800" <= char <= "\udfff" else f"\\u{ord(char):04x}"
