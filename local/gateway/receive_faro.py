"""Receives what browsers send by Grafana Faro: traces as OTLP, everything else as log lines.

Source of the format: Alloy's component faro.receiver, and the Faro Web SDK's transport: one JSON object with `meta`,
`traces` (OTLP/JSON) and lists of `logs`, `events`, `measurements` and `exceptions`, answered with 202.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from common.telemetry.logs.records import logfmt
from local.gateway.http_error import HttpError
from local.gateway.receive_loki import HEX
from local.gateway.receive_otlp import OtlpReceiver, from_json
from local.gateway.records import LogLine
from local.gateway.telemetry_store import TelemetryStore
from local.gateway.web import Answer, Request, Route, parse_json

PATH = "/collect"
# Each kind of item: its list in the payload, and the field with its name in logfmt.
KINDS = {"log": "logs", "event": "events", "measurement": "measurements", "exception": "exceptions"}
# The parts of `meta` that each line repeats, so that a query can group by them.
META = {"session": ("id",), "page": ("url",), "browser": ("name", "version", "os", "mobile"), "view": ("name",)}
MOST_ITEMS = 1000
# As Alloy 1.12 has it: a page whose SDK sends another header could not send to Alloy either.
ALLOWED_HEADERS = "content-type, traceparent, x-api-key, x-faro-session-id, x-scope-orgid"
# Not as the payload says: anyone could make a service for each name.
JOB, SERVICE = "mythical-frontend", "mythical-browser"
# As in alloy/faro.alloy: bytes of a payload, payloads per second, and how many may come at once.
MOST_BYTES = 1024 * 1024
RATE, BURST = 50, 100


class FaroReceiver:
    """Stores the traces and the lines of browsers; pages of the `origins` only may send, and only so often."""

    def __init__(
        self,
        store: TelemetryStore,
        otlp: OtlpReceiver,
        forward: Callable[[list[LogLine]], None],
        origins: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._otlp = otlp
        self._forward = forward
        self._origins = origins
        self._clock = clock
        self._lock = threading.Lock()
        self._left, self._at = float(BURST), clock()

    def routes(self) -> list[Route]:
        """The one path of the port, and the preflight request that browsers send before they send to another origin."""
        return [Route("POST", PATH, self._collect), Route("OPTIONS", PATH, self._preflight)]

    def _preflight(self, request: Request) -> Answer:
        return Answer(status=204, headers=self._cors(request))

    def _collect(self, request: Request) -> Answer:
        headers = self._cors(request)
        self._limit_rate()
        payload = _read(request.body)
        lines = list(lines_of(payload))
        if traces := payload.get("traces"):
            spans = from_json(ExportTraceServiceRequest(), json.dumps(traces).encode())
            self._otlp.take("/v1/traces", spans.SerializeToString())
        self._store.add_lines(lines)
        self._forward(lines)
        return Answer(b"ok", "text/plain; charset=utf-8", 202, headers)

    def _limit_rate(self) -> None:
        """Let BURST payloads pass at once, and RATE per second after that; raise HttpError 429 for more."""
        with self._lock:
            now = self._clock()
            self._left, self._at = min(BURST, self._left + RATE * (now - self._at)), now
            if self._left < 1:
                raise HttpError(429, f"more than {RATE} payloads per second; send later")
            self._left -= 1

    def _cors(self, request: Request) -> dict[str, str]:
        """Return the headers that let the page send here; raise HttpError 403 for a page of another origin."""
        origin = request.headers.get("Origin")
        if origin is None:
            return {}  # not a browser
        if origin not in self._origins:
            raise HttpError(403, f"pages of this origin may not send here; allowed: {', '.join(self._origins)}")
        return {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": "POST",
            "Access-Control-Allow-Headers": ALLOWED_HEADERS,
            "Access-Control-Max-Age": "600",
            "Vary": "Origin",
        }


def _read(body: bytes) -> dict[str, Any]:
    payload = parse_json(body)
    if not isinstance(payload, dict) or not isinstance(payload.get("meta"), dict):
        raise HttpError(400, 'the body must be a Faro payload, an object with "meta"')
    if sum(len(_items(payload, name)) for name in KINDS.values()) > MOST_ITEMS:
        raise HttpError(413, f"the payload has more than {MOST_ITEMS} items; send smaller batches")
    return payload


def _items(payload: dict[str, Any], name: str) -> list[dict[str, Any]]:
    items = payload.get(name) or []
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise HttpError(400, f"{name} must be a list of objects")
    return items


def lines_of(payload: dict[str, Any]) -> Iterator[LogLine]:
    """Return a line for each item of a payload, in logfmt with Alloy's field names."""
    app = _object(payload["meta"].get("app"))
    shared = _flat("app", {key: app.get(key) for key in ("name", "version", "environment")})
    for part, names in META.items():
        of = _object(payload["meta"].get(part))
        shared |= _flat(part, {name: of.get(name) for name in names})
    for kind, name in KINDS.items():
        for item in _items(payload, name):
            trace = _object(item.get("trace"))
            fields = {"kind": kind, **_fields(kind, item), **shared}
            yield LogLine(
                time_unix_nano=_nanoseconds(item.get("timestamp")),
                service=SERVICE,
                labels={"service_name": SERVICE, "job": JOB, "kind": kind},
                line=logfmt(fields),
                metadata={},
                resource={},
                trace_id=_id(trace.get("trace_id")),
                span_id=_id(trace.get("span_id")),
                via="faro",
            )


def _fields(kind: str, item: dict[str, Any]) -> dict[str, str]:
    """Return what is particular to a kind of item."""
    match kind:
        case "log":
            own = {"message": item.get("message"), "level": item.get("level")}
        case "event":
            own = {"event_name": item.get("name"), "event_domain": item.get("domain")}
            own |= _flat("event_data", _object(item.get("attributes")))
        case "measurement":
            own = {"type": item.get("type"), **_flat("value", _object(item.get("values")))}
        case _:
            own = {"type": item.get("type"), "value": item.get("value"), "stacktrace": _stack(item)}
    trace = _object(item.get("trace"))
    own |= {
        "traceID": trace.get("trace_id"),
        "spanID": trace.get("span_id"),
        **_flat("context", _object(item.get("context"))),
    }
    return {key: str(value) for key, value in own.items() if value not in (None, "")}


def _stack(item: dict[str, Any]) -> str:
    frames = _object(item.get("stacktrace")).get("frames")
    text = [f"{item.get('type')}: {item.get('value')}"]
    for frame in frames if isinstance(frames, list) else []:
        at = _object(frame)
        text.append(f"  at {at.get('function') or '?'} ({at.get('filename')}:{at.get('lineno')}:{at.get('colno')})")
    return "\n".join(text)


def _flat(prefix: str, values: dict[str, Any]) -> dict[str, str]:
    return {f"{prefix}_{key}": str(value) for key, value in values.items() if value not in (None, "")}


def _id(value: Any) -> str:
    return value if isinstance(value, str) and HEX.fullmatch(value) else ""


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _nanoseconds(text: Any) -> int:
    """Return an ISO 8601 time as nanoseconds since 1970; raise HttpError 400 if it is not one."""
    try:
        return round(datetime.fromisoformat(str(text)).timestamp() * 1e6) * 1000
    except (ValueError, OverflowError):
        raise HttpError(400, "a timestamp is not an ISO 8601 time") from None
