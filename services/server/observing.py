"""What telemetry says of a request, in one place: its span's attributes, one histogram value, one log line."""

import logging
import time
from dataclasses import dataclass
from wsgiref.types import WSGIEnvironment

from flask import Flask, Response, g, request
from opentelemetry import trace
from opentelemetry.metrics import Meter

from common.beasts import Catalogue
from common.conventions import Conventions

log = logging.getLogger(__name__)

# The buckets that the dashboards were drawn for, in milliseconds.
BUCKETS_MS = (10, 20, 50, 100, 200, 500, 1000, 2000, 4000, 8000, 16000)

# What stands for anything that a caller made up: an address or a method as it came would let anyone create series.
UNKNOWN = "unknown"
METHODS = frozenset({"GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"})

FAILURE, SERVER_FAILURE = 400, 500

HTTP_PORT, PORT_DIGITS = 80, 5

WATCHED = "mythical.watched"

# OpenTelemetry semantic conventions, metric http.server.request.duration: the advised bucket boundaries, in seconds.
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)


class Observing:
    """Watches each request of an app from its start to its answer."""

    def __init__(self, meter: Meter, catalogue: Catalogue, conventions: Conventions) -> None:
        self._catalogue = catalogue
        self._conventions = conventions
        # No unit: it would become part of the name in Prometheus, and the name is one that dashboards rely on.
        self._times = meter.create_histogram(
            "mythical_request_times",
            description="Time to answer a request, in milliseconds.",
            explicit_bucket_boundaries_advisory=BUCKETS_MS,
        )
        # The instrumentation's own metrics carry the Host header as a label: anyone could create series with it.
        self._duration = meter.create_histogram(
            "http.server.request.duration",
            unit="s",
            description="Duration of HTTP server requests.",
            explicit_bucket_boundaries_advisory=BUCKETS_S,
        )

    def watch(self, app: Flask) -> None:
        """Register with the app. Call it after the instrumentation, so that the span is there when this runs."""
        app.before_request(self._begin)
        app.after_request(self._end)

    def _begin(self) -> None:
        environ = request.environ
        beast = (request.view_args or {}).get("beast", UNKNOWN)
        span = trace.get_current_span()
        watched = _Watched(
            start=time.perf_counter(),
            beast=beast if beast in self._catalogue.danger else UNKNOWN,
            method=environ["REQUEST_METHOD"] if environ["REQUEST_METHOD"] in METHODS else "_OTHER",
            route=request.url_rule.rule if request.url_rule else UNKNOWN,
            span=span,
        )
        environ[WATCHED] = watched
        if span.is_recording():
            span.set_attributes(self._attributes(watched, environ))

    def _attributes(self, watched: "_Watched", environ: WSGIEnvironment) -> dict[str, str | int]:
        """What the instrumentation leaves out, at a quarter of what it costs to have it give both conventions.

        `http.target` is a dimension of span metrics, so it comes from the catalogue, not from the caller, and bears
        no query. `server.address` has no port, which the instrumentation leaves on; `url.path` it would take
        from a variable that granian does not set.
        """
        asked = str(environ.get("HTTP_HOST") or environ["SERVER_NAME"])
        host, port = _host_and_port(asked)
        attributes: dict[str, str | int] = {}
        if watched.beast != UNKNOWN:
            attributes[self._catalogue.tag] = watched.beast
        if self._conventions.new_http:
            attributes["server.address"] = host
            attributes["url.path"] = environ["PATH_INFO"]
        if self._conventions.old_http:
            attributes["http.method"] = watched.method
            attributes["http.target"] = f"/{watched.beast}"
            attributes["http.scheme"] = environ["wsgi.url_scheme"]
            attributes["http.flavor"] = environ["SERVER_PROTOCOL"].removeprefix("HTTP/")
            attributes["http.user_agent"] = environ.get("HTTP_USER_AGENT", "")
            attributes["net.host.name"] = host
            attributes["net.host.port"] = port
            attributes["http.host"] = asked
            attributes["net.peer.ip"] = environ.get("REMOTE_ADDR", "")
        return attributes

    def _end(self, response: Response) -> Response:
        watched: _Watched = request.environ[WATCHED]
        took_s = time.perf_counter() - watched.start
        status = response.status_code
        if self._conventions.old_http:
            watched.span.set_attribute("http.status_code", status)
        self._times.record(
            took_s * 1000, {"method": watched.method, "status": str(status), self._catalogue.tag: watched.beast}
        )
        labels: dict[str, str | int] = {
            "http.request.method": watched.method,
            "http.response.status_code": status,
            "http.route": watched.route,
        }
        if status >= SERVER_FAILURE:
            labels["error.type"] = str(status)
        self._duration.record(took_s, labels)
        self._log(watched, response)
        return response

    def _log(self, watched: "_Watched", response: Response) -> None:
        failed = response.status_code >= FAILURE
        fields = {
            "http.method": watched.method,
            "endpoint": watched.beast,
            "status": "FAILURE" if failed else "SUCCESS",
        }
        if failed:
            fields["http.status_code"] = str(response.status_code)
            fields["error"] = g.get("error", response.status)
        tags = {} if watched.beast == UNKNOWN else {self._catalogue.tag: watched.beast}
        level = logging.ERROR if response.status_code >= SERVER_FAILURE else logging.INFO
        log.log(level, "request served", extra={"fields": fields, "tags": tags})


def _host_and_port(asked: str) -> tuple[str, int]:
    """Part a Host header, `[::1]:4000` among them; without a usable port it is that of HTTP."""
    host, colon, port = asked.rpartition(":")
    if not colon or asked.endswith("]"):
        host, port = asked, ""
    usable = port.isascii() and port.isdecimal() and len(port) <= PORT_DIGITS
    return host.strip("[]"), int(port) if usable else HTTP_PORT


@dataclass(frozen=True, slots=True)
class _Watched:
    """What is known of a request from its start; kept in the WSGI environment, since Flask's `g` costs on each use."""

    start: float
    beast: str
    method: str
    route: str
    span: trace.Span
