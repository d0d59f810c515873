"""Takes log lines as Loki's push endpoint does, in JSON.

Source of the format: Loki's HTTP API, POST /loki/api/v1/push: {"streams": [{"stream": {label: value}, "values":
[["<ns since 1970>", "<line>", {structured metadata}]]}]}, answered with 204.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from local.gateway.http_error import HttpError
from local.gateway.records import LONGEST_NAME, LogLine
from local.gateway.telemetry_store import TelemetryStore
from local.gateway.web import Answer, Request, Route

PATH = "/loki/api/v1/push"
# The keys the suite's lines carry, and those of OpenTelemetry's own log formats.
TRACE_KEYS = ("traceID", "traceId", "trace_id")
SPAN_KEYS = ("spanID", "spanId", "span_id")
SERVICE_LABELS = ("service_name", "service", "job")
TRACE_IN_LINE = re.compile(r"(?:traceI[dD]|trace_id)=\"?([0-9a-f]{32})\b")
SPAN_IN_LINE = re.compile(r"(?:spanI[dD]|span_id)=\"?([0-9a-f]{16})\b")
HEX = re.compile(r"(?:[0-9a-f]{16}){1,2}")
LAST_NANOSECOND = 2**63 - 1


class LokiReceiver:
    """Puts pushed lines into the window and hands them on."""

    def __init__(self, store: TelemetryStore, forward: Callable[[list[LogLine]], None]) -> None:
        self._store = store
        self._forward = forward

    def routes(self) -> list[Route]:
        """The one route of the port."""
        return [Route("POST", PATH, self._push)]

    def _push(self, request: Request) -> Answer:
        if request.content_type != "application/json":
            raise HttpError(
                415,
                "only Loki's JSON push is taken here; send Content-Type application/json"
                " (a client that sends snappy protobuf has a setting for JSON, or can send OTLP logs)",
            )
        lines = list(read_push(request.body))
        self._store.add_lines(lines)
        self._forward(lines)
        return Answer(status=204)


def read_push(body: bytes) -> Iterator[LogLine]:
    """The lines of a push. Raises HttpError 400 that names the first invalid place."""
    try:
        push = json.loads(body)
    except (ValueError, RecursionError):
        raise HttpError(400, "the body is not JSON") from None
    streams = push.get("streams") if isinstance(push, dict) else None
    if not isinstance(streams, list):
        raise HttpError(400, 'the body must be {"streams": […]}')
    for number, stream in enumerate(streams):
        yield from _stream(stream, f"streams[{number}]")


def _stream(stream: Any, where: str) -> Iterator[LogLine]:
    labels = stream.get("stream") if isinstance(stream, dict) else None
    values = stream.get("values") if isinstance(stream, dict) else None
    if not isinstance(labels, dict) or not isinstance(values, list):
        raise HttpError(400, f'{where} must be {{"stream": {{labels}}, "values": […]}}')
    # python-logging-loki sends a number as label value where a program put one; Loki itself wants text.
    labels = _texts(labels)
    service = next((labels[label] for label in SERVICE_LABELS if labels.get(label)), "unknown_service")[:LONGEST_NAME]
    for number, value in enumerate(values):
        yield _line(value, labels, service, f"{where}.values[{number}]")


def _line(value: Any, labels: dict[str, str], service: str, where: str) -> LogLine:
    match value:
        case [str(time), str(line)] if _is_time(time):
            metadata = {}
        case [str(time), str(line), dict(extra)] if _is_time(time):
            metadata = _texts(extra)
        case _:
            raise HttpError(400, f'{where} must be ["<ns since 1970>", "<line>"], and may end with {{metadata}}')
    return LogLine(
        time_unix_nano=int(time),
        service=service,
        labels=labels,
        line=_text(line),
        metadata=metadata,
        resource={},
        trace_id=_id(metadata, TRACE_KEYS, TRACE_IN_LINE, line),
        span_id=_id(metadata, SPAN_KEYS, SPAN_IN_LINE, line),
        via="loki",
    )


def _is_time(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= LAST_NANOSECOND  # noqa: PLR2004 - digits of 2**63


def _id(metadata: dict[str, str], keys: tuple[str, ...], pattern: re.Pattern[str], line: str) -> str:
    """A trace or span id in hex: of the metadata, else of the line, else empty."""
    for key in keys:
        if HEX.fullmatch(metadata.get(key, "")):
            return metadata[key]
    found = pattern.search(line)
    return found[1] if found else ""


def _texts(values: dict[str, Any]) -> dict[str, str]:
    return {_text(key): _text(value) for key, value in values.items()}


def _text(value: Any) -> str:
    """`value` as text that UTF-8 can encode: JSON may hold half a surrogate pair, which no protobuf takes."""
    return str(value).encode("utf-8", "replace").decode()
