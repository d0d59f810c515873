"""Telemetry of an incoming request: attributes of its span, the conventions' histogram, fields of its log line."""

import logging
import time
from collections.abc import Callable, Mapping
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
    """Properties of a request that are known when it starts. Its WSGI environment holds this object."""

    method: str
    route: str
    beast: str
    synthetic: Mapping[str, str]
    start: float = field(default_factory=time.perf_counter)

    @property
    def target(self) -> str:
        """The path without values of a client, since it is a dimension of span metrics."""
        if self.beast != UNKNOWN:
            return self.route.replace("<beast>", self.beast)
        return self.route if self.route.startswith("/") and "<" not in self.route else f"/{UNKNOWN}"


def log_level(response: Response) -> int:
    """Return the level of a request's log line: a failure of the service itself is an error."""
    return logging.ERROR if response.status_code >= SERVER_FAILURE else logging.INFO


def outcome(state: RequestState, response: Response) -> dict[str, str]:
    """Return the fields of a request's log line that describe the response, and whether the load is synthetic."""
    fields = {"status": "SUCCESS"}
    if response.status_code >= FAILURE:
        fields = {
            "status": "FAILURE",
            "http.status_code": str(response.status_code),
            "error": g.get("error", response.status),
        }
    if state.synthetic:
        fields[SYNTHETIC] = state.synthetic[SYNTHETIC]
    return fields


class RequestTelemetry:
    """Describes the requests of an app. With `spans=False`, another instrumentation describes the spans.

    `on_response` is called inside the span of each request with its state, the response, and the duration in seconds.
    """

    def __init__(
        self,
        meter: Meter,
        endpoints: EndpointSet,
        conventions: Conventions,
        on_response: Callable[[RequestState, Response, float], None],
        *,
        spans: bool,
    ) -> None:
        self._spans = spans
        self._endpoints = endpoints
        self._conventions = conventions
        self._on_response = on_response
        self._duration = meter.create_histogram(
            "http.server.request.duration",
            unit="s",
            description="Duration of HTTP server requests.",
            explicit_bucket_boundaries_advisory=HTTP_DURATION_BUCKETS_S,
        )

    def init_app(self, app: Flask) -> None:
        """Register with the app, after the instrumentation: the functions here run inside the request's span."""
        if not self._spans:
            app.before_request(self._begin)
        app.after_request(self._finish)

    def start_attributes(self, environ: WSGIEnvironment) -> dict[str, AttributeValue]:
        """Return the attributes with which the span of the current request starts."""
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
        """Start the time; where our own code makes the spans, start_attributes() does."""
        self._state(request.environ)

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
            labels[SYNTHETIC] = state.synthetic[SYNTHETIC]
        self._duration.record(duration_s, labels)
        self._on_response(state, response, duration_s)
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
        "http.target": state.target,
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
