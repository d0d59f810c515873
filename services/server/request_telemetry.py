"""What telemetry says of a request, in one place: its span's attributes, one histogram value, one log line."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from wsgiref.types import WSGIEnvironment

from flask import Flask, Request, Response, g, request
from opentelemetry import trace
from opentelemetry.metrics import Meter

from common.core.endpoints import EndpointSet
from common.fast.metrics import Series
from common.telemetry.semconv import Conventions
from common.telemetry.synthetic import SYNTHETIC, synthetic

log = logging.getLogger(__name__)

# The buckets that the dashboards were drawn for, in milliseconds.
BUCKETS_MS = (10, 20, 50, 100, 200, 500, 1000, 2000, 4000, 8000, 16000)

# What stands for anything that a caller made up: an address or a method as it came would let anyone create series.
UNKNOWN, OTHER = "unknown", "_OTHER"
METHODS = frozenset({"GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"})

FAILURE, SERVER_FAILURE = 400, 500

HTTP_PORT, PORT_DIGITS = 80, 5

# What a request need not have, and the variable of its WSGI environment.
OPTIONAL = (
    ("url.query", "QUERY_STRING"),
    ("client.address", "REMOTE_ADDR"),
    ("user_agent.original", "HTTP_USER_AGENT"),
)

WATCHED = "mythical.watched"

# OpenTelemetry semantic conventions, metric http.server.request.duration: the advised bucket boundaries, in seconds.
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)


class RequestTelemetry:
    """Watches each request of an app from its start to its answer."""

    def __init__(self, meter: Meter, catalogue: EndpointSet, conventions: Conventions) -> None:
        self._catalogue = catalogue
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
            explicit_bucket_boundaries_advisory=BUCKETS_S,
        )
        # By what makes the labels: all of it is from small sets, so there are no more entries than series.
        self._series: dict[_Told, _Series] = {}

    def watch(self, app: Flask) -> None:
        """Register with the app. Call it after the instrumentation, so that the span is there when this runs."""
        app.before_request(self._begin)
        app.after_request(self._end)

    def _begin(self) -> None:
        proxy: Any = request  # looks the request up anew for each word
        asked: Request = proxy._get_current_object()
        environ = asked.environ
        beast = (asked.view_args or {}).get("beast", UNKNOWN)
        span = trace.get_current_span()
        watched = _Watched(
            start=time.perf_counter(),
            beast=beast if beast in self._catalogue.danger else UNKNOWN,
            method=environ["REQUEST_METHOD"] if environ["REQUEST_METHOD"] in METHODS else OTHER,
            route=asked.url_rule.rule if asked.url_rule else UNKNOWN,
            span=span,
            marks=synthetic(environ["HTTP_BAGGAGE"]) if "HTTP_BAGGAGE" in environ else {},
        )
        environ[WATCHED] = watched
        if span.is_recording():
            span.set_attributes(self._attributes(watched, environ))

    def _attributes(self, watched: "_Watched", environ: WSGIEnvironment) -> dict[str, str | int]:
        """What the span says from the start, by the conventions for HTTP servers.

        `http.target` is a dimension of span metrics, so it comes from the catalogue, not from the caller, and bears
        no query.
        """
        attributes: dict[str, str | int] = {"http.route": watched.route, **watched.marks}
        if watched.beast != UNKNOWN:
            attributes[self._catalogue.tag] = watched.beast
        if self._conventions.new_http:
            attributes |= _new(watched, environ)
        if self._conventions.old_http:
            attributes |= _old(watched, environ)
            if not self._conventions.new_http:
                attributes |= _old_alone(environ)
        return attributes

    def _end(self, response: Response) -> Response:
        environ = request.environ
        watched: _Watched = environ[WATCHED]
        took_s = time.perf_counter() - watched.start
        status = response.status_code
        if watched.span.is_recording():
            self._mark(watched.span, status)
        # One of two: a caller may put any word into an address that begins with a scheme.
        scheme = "https" if environ["wsgi.url_scheme"] == "https" else "http"
        of: _Told = (watched.method, status, watched.beast, watched.route, scheme, watched.marks.get(SYNTHETIC))
        series = self._series.get(of) or self._series.setdefault(of, self._make_series(of))
        series.times.record(took_s * 1000, watched.span)
        series.duration.record(took_s, watched.span)
        self._log(watched, response)
        return response

    def _make_series(self, told: "_Told") -> "_Series":
        method, status, beast, route, scheme, mark = told
        times = {"method": method, "status": str(status), self._catalogue.tag: beast}
        labels: dict[str, str | int] = {
            "http.request.method": method,
            "http.response.status_code": status,
            "http.route": route,
            "url.scheme": scheme,
        }
        if status >= SERVER_FAILURE:
            labels["error.type"] = str(status)
        if mark is not None:
            # Kind and shape stay on the span: as labels they would make eighteen series of each.
            times[SYNTHETIC] = labels[SYNTHETIC] = mark
        return _Series(Series(self._times, times), Series(self._duration, labels))

    def _mark(self, span: trace.Span, status: int) -> None:
        """Put the status on the span; only what the server is to blame for makes it one that failed."""
        if self._conventions.old_http:
            span.set_attribute("http.status_code", status)
        if self._conventions.new_http:
            span.set_attribute("http.response.status_code", status)
            if status >= SERVER_FAILURE:
                span.set_attribute("error.type", str(status))
        if status >= SERVER_FAILURE:
            span.set_status(trace.StatusCode.ERROR)

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
        if watched.marks:
            fields[SYNTHETIC] = watched.marks[SYNTHETIC]
        tags = {} if watched.beast == UNKNOWN else {self._catalogue.tag: watched.beast}
        level = logging.ERROR if response.status_code >= SERVER_FAILURE else logging.INFO
        log.log(level, "request served", extra={"fields": fields, "tags": tags})


def _new(watched: "_Watched", environ: WSGIEnvironment) -> dict[str, str | int]:
    """The attributes of a request by the present names."""
    attributes: dict[str, str | int] = {
        "http.request.method": watched.method,
        "url.scheme": environ["wsgi.url_scheme"],
        "url.path": environ["PATH_INFO"],
        "server.address": _host_and_port(_asked(environ))[0],
        "server.port": int(environ["SERVER_PORT"]),
        "network.protocol.version": environ["SERVER_PROTOCOL"].removeprefix("HTTP/"),
    }
    if watched.method == OTHER:
        attributes["http.request.method_original"] = environ["REQUEST_METHOD"]
    for name, variable in OPTIONAL:
        if value := environ.get(variable):
            attributes[name] = value
    if caller_port := environ.get("REMOTE_PORT"):
        attributes["client.port"] = int(caller_port)
    return attributes


def _old(watched: "_Watched", environ: WSGIEnvironment) -> dict[str, str | int]:
    """The same by the names of before, which the dashboards ask for."""
    asked = _asked(environ)
    host, port = _host_and_port(asked)
    return {
        "http.method": watched.method,
        "http.target": f"/{watched.beast}",
        "http.scheme": environ["wsgi.url_scheme"],
        "http.flavor": environ["SERVER_PROTOCOL"].removeprefix("HTTP/"),
        "http.user_agent": environ.get("HTTP_USER_AGENT", ""),
        "http.host": asked,
        "net.host.name": host,
        "net.host.port": port,
        "net.peer.ip": environ.get("REMOTE_ADDR", ""),
    }


def _old_alone(environ: WSGIEnvironment) -> dict[str, str | int]:
    """What has no place beside the present names."""
    caller_port = environ.get("REMOTE_PORT")
    port = {"net.peer.port": int(caller_port)} if caller_port else {}
    return {"http.server_name": environ["SERVER_NAME"], **port}


def _asked(environ: WSGIEnvironment) -> str:
    return str(environ.get("HTTP_HOST") or environ["SERVER_NAME"])


@lru_cache(64)
def _host_and_port(asked: str) -> tuple[str, int]:
    """Part a Host header, `[::1]:4000` among them; without a usable port it is that of HTTP."""
    host, colon, port = asked.rpartition(":")
    if not colon or asked.endswith("]"):
        host, port = asked, ""
    usable = port.isascii() and port.isdecimal() and len(port) <= PORT_DIGITS
    return host.strip("[]"), int(port) if usable else HTTP_PORT


# Method, status, beast, route, scheme, and the mark of a synthetic request.
_Told = tuple[str, int, str, str, str, str | None]


@dataclass(frozen=True, slots=True)
class _Series:
    """What a request that is told so counts in."""

    times: Series
    duration: Series


@dataclass(frozen=True, slots=True)
class _Watched:
    """What is known of a request from its start; kept in the WSGI environment, since Flask's `g` costs on each use."""

    start: float
    beast: str
    method: str
    route: str
    span: trace.Span
    marks: Mapping[str, str]
