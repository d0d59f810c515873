"""The JSON API under /api/: queries on the stored telemetry."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

from local.gateway.flames import flame_json, profiled_spans_json, profiles_json
from local.gateway.http_error import HttpError
from local.gateway.otlp_json import line_json, point_json, series_json, span_json, trace_json
from local.gateway.pprof import PprofReader
from local.gateway.records import SpanRecord
from local.gateway.telemetry_store import TelemetryStore
from local.gateway.web import Answer, HttpPort, Request, Route, json_answer

DEFAULT_LIMIT = 100
LARGEST_LIMIT = 10_000
T = TypeVar("T")


class Api:
    """The handlers of the routes under /api/."""

    def __init__(
        self,
        store: TelemetryStore,
        reader: PprofReader,
        forwarded: Callable[[], dict[str, int]],
        ui: str | None,
        ports: Mapping[str, HttpPort],
    ) -> None:
        self._store = store
        self._reader = reader
        self._forwarded = forwarded
        self._ui = ui
        self._ports = ports

    def routes(self) -> list[Route]:
        """All routes of the API."""
        return [
            Route("GET", "/api/summary", self._summary),
            Route("GET", "/api/traces", self._traces),
            Route("GET", "/api/traces/{trace_id}", self._trace),
            Route("GET", "/api/spans", self._spans),
            Route("GET", "/api/logs", self._logs),
            Route("GET", "/api/metrics", self._metrics),
            Route("GET", "/api/profiles", self._profiles),
            Route("GET", "/api/profiles/{service}/flame", self._flame),
            Route("GET", "/api/profiles/{service}/spans", self._profiled_spans),
        ]

    def _summary(self, _: Request) -> Answer:
        rejected = {name: dict(port.rejected) for name, port in self._ports.items()}
        return json_answer(self._store.summary() | {"forward": self._forwarded(), "ui": self._ui, "rejected": rejected})

    def _traces(self, request: Request) -> Answer:
        service = request.query.get("service")
        now = self._store.now()
        oldest = now - number(request, "since_s", float("inf"))
        # Spans of one trace arrive in the batches of several services: the newest traces are still incomplete.
        newest = now - number(request, "quiet_s", 0)
        found = (
            trace_json(spans)
            for spans in self._store.traces()
            if oldest <= spans[-1].arrived <= newest and (not service or any(span.service == service for span in spans))
        )
        return json_answer(limited(found, request))

    def _trace(self, request: Request) -> Answer:
        spans = self._store.trace(trace_id(request.captured[0]))
        if not spans:
            raise HttpError(404, "this trace is not stored; it was evicted, or has not arrived yet")
        profiled = set().union(*(profile.span_ids for profile in self._store.profiles()))
        return json_answer([span_json(span) | {"profiled": span.span_id.hex() in profiled} for span in spans])

    def _spans(self, request: Request) -> Answer:
        return json_answer([span_json(span) for span in limited(self._named_spans(request), request)])

    def _named_spans(self, request: Request) -> Iterator[SpanRecord]:
        service, name = request.query.get("service"), request.query.get("name")
        for span in self._store.spans():
            if (not service or span.service == service) and (not name or span.name == name):
                yield span

    def _logs(self, request: Request) -> Answer:
        service, contains = request.query.get("service"), request.query.get("contains", "")
        trace = request.query.get("trace_id", "").lower()
        found = (
            line_json(line)
            for line in self._store.lines()
            if (not service or line.service == service)
            and (not trace or line.trace_id == trace)
            and contains in line.line
        )
        return json_answer(limited(found, request))

    def _metrics(self, request: Request) -> Answer:
        service, name = request.query.get("service"), request.query.get("name")
        metrics: dict[Any, dict[str, Any]] = {}
        for series in self._store.series():
            if (service and series.service != service) or (name and series.name != name):
                continue
            # Resources are shared by identity among the series of one process; the id separates instances of a service.
            key = (series.name, series.kind, series.scope, id(series.resource))
            metric = metrics.setdefault(key, series_json(series) | {"points": []})
            metric["points"].append(point_json(series))
        return json_answer(sorted(metrics.values(), key=lambda metric: (metric["service"], metric["name"])))

    def _profiles(self, request: Request) -> Answer:
        return json_answer(limited(profiles_json(self._store, request.query.get("service")), request))

    def _flame(self, request: Request) -> Answer:
        kind, span_id = request.query.get("type"), request.query.get("span_id")
        since_s = number(request, "since_s", float("inf"))
        return json_answer(flame_json(self._store, self._reader, request.captured[0], kind, span_id, since_s=since_s))

    def _profiled_spans(self, request: Request) -> Answer:
        return json_answer(limited(profiled_spans_json(self._store, request.captured[0]), request))


def limited(found: Iterable[T], request: Request) -> list[T]:
    """Return the first of `found`, at most as many as the query parameter `limit` says."""
    limit = number(request, "limit", DEFAULT_LIMIT)
    return list(islice(found, int(min(limit, LARGEST_LIMIT))))


def number(request: Request, name: str, default: float) -> float:
    """Return a query parameter as a number of 0 or more. Raises HttpError 400 if it is not one."""
    text = request.query.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not value >= 0:
        raise HttpError(400, f"{name} must be a number, 0 or more")
    return value


def trace_id(text: str) -> bytes:
    """Parse a trace id in hex. Raises HttpError 400 if it is not one."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise HttpError(400, "a trace id is 32 hexadecimal digits") from None
