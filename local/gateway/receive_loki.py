"""Accepts log lines on the paths of Alloy's `loki.source.api`: JSON, Snappy-compressed protobuf, and plain text.

Sources of the formats: Loki's HTTP API, POST /loki/api/v1/push: {"streams": [{"stream": {label: value}, "values":
[["<ns since 1970>", "<line>", {structured metadata}]]}]}, or LokiPushRequest in push.proto; answered with 204. The
reference of loki.source.api for the paths, and for /raw, whose body is one line of text after the other.
"""

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.message import DecodeError

from local.gateway.compression import decompress
from local.gateway.http_error import HttpError
from local.gateway.push_pb2 import LokiPushRequest
from local.gateway.records import LONGEST_NAME, LogLine
from local.gateway.telemetry_store import TelemetryStore
from local.gateway.web import READY, Answer, Request, Route, content_coding, parse_json

PREFIXES = ("/loki/api/v1", "/api/v1")
# The keys the suite's lines carry, and those of OpenTelemetry's own log formats.
TRACE_KEYS = ("traceID", "traceId", "trace_id")
SPAN_KEYS = ("spanID", "spanId", "span_id")
SERVICE_LABELS = ("service_name", "service", "job")
TRACE_IN_LINE = re.compile(r"(?:traceI[dD]|trace_id)=\"?([0-9a-f]{32})\b")
SPAN_IN_LINE = re.compile(r"(?:spanI[dD]|span_id)=\"?([0-9a-f]{16})\b")
HEX = re.compile(r"(?:[0-9a-f]{16}){1,2}")
LAST_NANOSECOND = 2**63 - 1
# A label and its value, which is quoted as in Go.
LABEL = re.compile(r'\s*"?([a-zA-Z_][\w.]*)"?\s*=\s*"((?:[^"\\]|\\.)*)"\s*,?', re.DOTALL)
ESCAPED = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class LokiReceiver:
    """Stores pushed lines and forwards them."""

    def __init__(self, store: TelemetryStore, limit: int, forward: Callable[[list[LogLine]], None]) -> None:
        """Reject protobuf that unpacks to more than `limit` bytes."""
        self._store = store
        self._limit = limit
        self._forward = forward

    def routes(self) -> list[Route]:
        """The routes of the port."""
        return [
            *(Route("POST", f"{prefix}/push", self._push) for prefix in PREFIXES),
            *(Route("POST", f"{prefix}/raw", self._raw) for prefix in PREFIXES),
            READY,
        ]

    def _push(self, request: Request) -> Answer:
        if request.content_type == "application/json":
            return self._take(read_push(request.body))
        # The rest is protobuf, which is compressed in itself; some clients say so in the header as well.
        packed = "snappy" not in content_coding(request.headers)
        try:
            return self._take(
                read_protobuf(decompress("snappy", request.body, self._limit) if packed else request.body)
            )
        except HttpError as error:
            if error.status == 400 and request.content_type != "application/x-protobuf":  # noqa: PLR2004
                raise HttpError(
                    415, "send lines as application/json, or compressed with Snappy as application/x-protobuf"
                ) from None
            raise

    def _raw(self, request: Request) -> Answer:
        now = time.time_ns()
        texts = request.body.decode("utf-8", "replace").split("\n")
        return self._take(log_line(now, text.rstrip("\r"), {}, {}) for text in texts if text.rstrip("\r"))

    def _take(self, read: Iterator[LogLine]) -> Answer:
        # All are read before the first is stored: a rejected push must not be accepted in part.
        lines = list(read)
        self._store.add_lines(lines)
        self._forward(lines)
        return Answer(status=204)


def read_protobuf(body: bytes) -> Iterator[LogLine]:
    """Return the lines of a push in protobuf. Raises HttpError 400 if it is not one."""
    try:
        push = LokiPushRequest.FromString(body)
    except DecodeError:
        raise HttpError(400, "the body is not a logproto.PushRequest in protobuf") from None
    for stream in push.streams:
        labels = parse_labels(stream.labels)
        for entry in stream.entries:
            moment = entry.timestamp.seconds * 10**9 + entry.timestamp.nanos
            if not 0 <= moment <= LAST_NANOSECOND:
                raise HttpError(400, "the body has a line whose timestamp is not between 1970 and 2262")
            metadata = {pair.name: pair.value for pair in entry.structured_metadata}
            yield log_line(moment, entry.line.decode("utf-8", "replace"), labels, metadata)


def parse_labels(text: str) -> dict[str, str]:
    """Parse labels as in a query, `{job="x", level="info"}`. Raises HttpError 400 if they are invalid."""
    labels, at, text = {}, 1, text.strip()
    while label := LABEL.match(text, at):
        labels[label[1]], at = ESCAPED.sub(_escaped, label[2]).encode("utf-8", "replace").decode(), label.end()
    if text[:1] != "{" or text[at:].strip() != "}":
        raise HttpError(400, 'the labels of a stream must be {name="value", …}')
    return labels


def _escaped(found: re.Match[str]) -> str:
    if found[4]:
        return ESCAPES.get(found[4], found[4])
    return chr(min(int(found[1] or found[2] or found[3], 16), 0x10FFFF))


def read_push(body: bytes) -> Iterator[LogLine]:
    """Return the lines of a push in JSON. Raises HttpError 400 that names the first invalid place."""
    push = parse_json(body)
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
    for number, value in enumerate(values):
        match value:
            case [str(moment), str(line)] if _is_time(moment):
                yield log_line(int(moment), line, labels, {})
            case [str(moment), str(line), dict(metadata)] if _is_time(moment):
                yield log_line(int(moment), line, labels, _texts(metadata))
            case _:
                must = 'must be ["<ns since 1970>", "<line>"], and may end with {metadata}'
                raise HttpError(400, f"{where}.values[{number}] {must}")


def log_line(time_unix_nano: int, line: str, labels: dict[str, str], metadata: dict[str, str]) -> LogLine:
    """Return a line, with the service that its labels name, and the ids of trace and span that are found in it."""
    return LogLine(
        time_unix_nano=time_unix_nano,
        service=next((labels[name] for name in SERVICE_LABELS if labels.get(name)), "unknown_service")[:LONGEST_NAME],
        labels=labels,
        line=line,
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
    return {key: str(value) for key, value in values.items()}
