"""Telemetry of a request, in one place: the span's attributes, two histograms, one log line."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from wsgiref.types import WSGIEnvironment

from flask import Flask, Response, g, request
from opentelemetry import trace
from opentelemetry.metrics import Meter
from opentelemetry.trace import StatusCode
from opentelemetry.util.types import AttributeValue

from common.core.endpoints import EndpointSet
from common.telemetry.semconv import HTTP_DURATION_BUCKETS_S, HTTP_METHODS, OTHER, SYNTHETIC, synthetic_attributes
from common.telemetry.settings import Conventions

log = logging.getLogger(__name__)

# The buckets that the dashboards were drawn for, in milliseconds.
BUCKETS_MS = (10, 20, 50, 100, 200, 500, 1000, 2000, 4000, 8000, 16000)

# Placeholder: raw paths would create unbounded label values.
UNKNOWN = "unknown"

FAILURE, SERVER_FAILURE = 400, 500

HTTP_PORT, PORT_DIGITS = 80, 5

# Optional attributes and the WSGI key of each.
OPTIONAL = (
    ("url.query", "QUERY_STRING"),
    ("client.address", "REMOTE_ADDR"),
    ("user_agent.original", "HTTP_USER_AGENT"),
)

STATE = "mythical.request_state"


@dataclass(frozen=True, slots=True)
class RequestState:
    """What is known of a request when it starts; kept in its WSGI environment."""

    method: str
    route: str
    beast: str
    synthetic: Mapping[str, str]
    start: float = field(default_factory=time.perf_counter)


class RequestTelemetry:
    """Describes the requests of an app in spans, metrics and the log; without `spans`, those are of others."""

    def __init__(self, meter: Meter, endpoints: EndpointSet, conventions: Conventions, *, spans: bool = True) -> None:
        self._spans = spans
        self._endpoints = endpoints
        self._conventions = conventions
        # No unit: it would become part of the name in Prometheus, and the name is one that dashboards rely on.
        self._times = meter.create_histogram(
            "mythical_request_times",
            description="Time to answer a request, in milliseconds.",
            explicit_bucket_boundaries_advisory=BUCKETS_MS,
        )
        self._duration = meter.create_histogram(
            "http.server.request.duration",
            unit="s",
            description="Duration of HTTP server requests.",
            explicit_bucket_boundaries_advisory=HTTP_DURATION_BUCKETS_S,
        )

    def init_app(self, app: Flask) -> None:
        """Register with the app, after the instrumentation: the functions here run inside the request's span."""
        app.before_request(self._begin)
        app.after_request(self._finish)

    def start_attributes(self, environ: WSGIEnvironment) -> dict[str, AttributeValue]:
        """Return the attributes with which the span of the current request starts.

        `http.target` is a dimension of span metrics, so it comes from the catalogue, not from the caller, and has no
        query.
        """
        state = self._state(environ)
        attributes: dict[str, AttributeValue] = {"http.route": state.route, **state.synthetic}
        if state.beast != UNKNOWN:
            attributes[self._endpoints.tag] = state.beast
        if self._conventions.new_http:
            attributes |= _new(state, environ)
        if self._conventions.old_http:
            attributes |= _old(state, environ)
            if not self._conventions.new_http:
                attributes |= _old_alone(environ)
        return attributes

    def _begin(self) -> None:
        self._state(request.environ)  # where nothing is instrumented, the time starts here

    def _state(self, environ: WSGIEnvironment) -> RequestState:
        state: RequestState | None = environ.get(STATE)
        if state is None:
            method, rule, beast = environ["REQUEST_METHOD"], request.url_rule, (request.view_args or {}).get("beast")
            state = environ[STATE] = RequestState(
                method=method if method in HTTP_METHODS else OTHER,
                route=rule.rule if rule else UNKNOWN,
                beast=beast if beast in self._endpoints.danger else UNKNOWN,
                synthetic=synthetic_attributes(),
            )
        return state

    def _finish(self, response: Response) -> Response:
        environ, status = request.environ, response.status_code
        state = self._state(environ)
        duration_s = time.perf_counter() - state.start
        if self._spans:
            self._set_status_attributes(trace.get_current_span(), status)
        times = {"method": state.method, "status": str(status), self._endpoints.tag: state.beast}
        labels: dict[str, AttributeValue] = {
            "http.request.method": state.method,
            "http.response.status_code": status,
            "http.route": state.route,
            # One of two: a caller may put any word into an address that begins with a scheme.
            "url.scheme": "https" if environ["wsgi.url_scheme"] == "https" else "http",
        }
        if status >= SERVER_FAILURE:
            labels["error.type"] = str(status)
        if state.synthetic:
            # Kind and shape stay on the span: as labels they would make eighteen series of each.
            times[SYNTHETIC] = labels[SYNTHETIC] = state.synthetic[SYNTHETIC]
        self._times.record(duration_s * 1000, times)
        self._duration.record(duration_s, labels)
        self._log(state, response, duration_s)
        return response

    def _set_status_attributes(self, span: trace.Span, status: int) -> None:
        """Set the status on the span; only a failure of the server itself makes the span one that failed."""
        if self._conventions.old_http:
            span.set_attribute("http.status_code", status)
        if self._conventions.new_http:
            span.set_attribute("http.response.status_code", status)
            if status >= SERVER_FAILURE:
                span.set_attribute("error.type", str(status))
        if status >= SERVER_FAILURE:
            span.set_status(StatusCode.ERROR)

    def _log(self, state: RequestState, response: Response, duration_s: float) -> None:
        failed = response.status_code >= FAILURE
        fields = {
            "http.method": state.method,
            "endpoint": state.beast,
            "status": "FAILURE" if failed else "SUCCESS",
        }
        if failed:
            fields["http.status_code"] = str(response.status_code)
            fields["error"] = g.get("error", response.status)
        if state.synthetic:
            fields[SYNTHETIC] = state.synthetic[SYNTHETIC]
        tags = {} if state.beast == UNKNOWN else {self._endpoints.tag: state.beast}
        level = logging.ERROR if response.status_code >= SERVER_FAILURE else logging.INFO
        json_fields = {"path": f"/{state.beast}", "duration": round(duration_s, 6)}
        log.log(level, "request served", extra={"fields": fields, "tags": tags, "json_fields": json_fields})


def _new(state: RequestState, environ: WSGIEnvironment) -> dict[str, AttributeValue]:
    """Return the attributes of a request by the present names."""
    attributes: dict[str, AttributeValue] = {
        "http.request.method": state.method,
        "url.scheme": environ["wsgi.url_scheme"],
        "url.path": environ["PATH_INFO"],
        "server.address": _host_and_port(_host_header(environ))[0],
        "server.port": int(environ["SERVER_PORT"]),
        "network.protocol.version": environ["SERVER_PROTOCOL"].removeprefix("HTTP/"),
    }
    if state.method == OTHER:
        attributes["http.request.method_original"] = environ["REQUEST_METHOD"]
    for name, variable in OPTIONAL:
        if value := environ.get(variable):
            attributes[name] = value
    if caller_port := environ.get("REMOTE_PORT"):
        attributes["client.port"] = int(caller_port)
    return attributes


def _old(state: RequestState, environ: WSGIEnvironment) -> dict[str, AttributeValue]:
    """Return the same by the old names, which the dashboards query."""
    asked = _host_header(environ)
    host, port = _host_and_port(asked)
    return {
        "http.method": state.method,
        "http.target": f"/{state.beast}",
        "http.scheme": environ["wsgi.url_scheme"],
        "http.flavor": environ["SERVER_PROTOCOL"].removeprefix("HTTP/"),
        "http.user_agent": environ.get("HTTP_USER_AGENT", ""),
        "http.host": asked,
        "net.host.name": host,
        "net.host.port": port,
        "net.peer.ip": environ.get("REMOTE_ADDR", ""),
    }


def _old_alone(environ: WSGIEnvironment) -> dict[str, AttributeValue]:
    """Return the old names of what the present conventions have no attribute for."""
    caller_port = environ.get("REMOTE_PORT")
    port = {"net.peer.port": int(caller_port)} if caller_port else {}
    return {"http.server_name": environ["SERVER_NAME"], **port}


def _host_header(environ: WSGIEnvironment) -> str:
    return str(environ.get("HTTP_HOST") or environ["SERVER_NAME"])


@lru_cache(64)
def _host_and_port(asked: str) -> tuple[str, int]:
    """Split a Host header such as `[::1]:4000`; without a usable port it is that of HTTP."""
    host, colon, port = asked.rpartition(":")
    if not colon or asked.endswith("]"):
        host, port = asked, ""
    usable = port.isascii() and port.isdecimal() and len(port) <= PORT_DIGITS
    return host.strip("[]"), int(port) if usable else HTTP_PORT
