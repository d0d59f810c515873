"""Telemetry of a request to the frontend: the span's attributes, the conventions' histogram, one log line."""

import logging
import time
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

# Placeholder: raw paths would create unbounded label values.
UNKNOWN = "unknown"

FAILURE, SERVER_FAILURE = 400, 500

START = "mythical.start"


class RequestTelemetry:
    """Describes the requests of an app in spans, metrics and the log."""

    def __init__(self, meter: Meter, endpoints: EndpointSet, conventions: Conventions, *, spans: bool = True) -> None:
        self._spans = spans
        self._endpoints = endpoints
        self._conventions = conventions
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
        """Return the attributes with which the span of the current request starts."""
        attributes: dict[str, AttributeValue] = {"http.route": self._route(), **synthetic_attributes()}
        if beast := self._beast():
            attributes[self._endpoints.tag] = beast
        if self._conventions.new_http:
            attributes |= {
                "http.request.method": self._method(),
                "url.scheme": environ["wsgi.url_scheme"],
                "url.path": environ["PATH_INFO"],
                "server.port": int(environ["SERVER_PORT"]),
                "user_agent.original": environ.get("HTTP_USER_AGENT", ""),
            }
        if self._conventions.old_http:
            # The target is a dimension of span metrics: it comes from the routes and the catalogue, not the caller.
            target = self._route().replace("<beast>", beast or UNKNOWN)
            attributes |= {"http.method": self._method(), "http.target": target}
        return attributes

    def _begin(self) -> None:
        request.environ[START] = time.perf_counter()

    def _finish(self, response: Response) -> Response:
        status = response.status_code
        span = trace.get_current_span() if self._spans else trace.INVALID_SPAN  # that of others is theirs
        if self._conventions.old_http:
            span.set_attribute("http.status_code", status)
        if self._conventions.new_http:
            span.set_attribute("http.response.status_code", status)
        labels: dict[str, AttributeValue] = {
            "http.request.method": self._method(),
            "http.response.status_code": status,
            "http.route": self._route(),
            "url.scheme": "https" if request.scheme == "https" else "http",
        }
        if status >= SERVER_FAILURE:
            labels["error.type"] = str(status)
            span.set_attribute("error.type", str(status))
            span.set_status(StatusCode.ERROR)
        if kind := synthetic_attributes().get(SYNTHETIC):
            labels[SYNTHETIC] = kind
        self._duration.record(time.perf_counter() - request.environ[START], labels)
        self._log(status)
        return response

    def _log(self, status: int) -> None:
        fields = {
            "http.method": self._method(),
            "route": self._route(),
            "status": "FAILURE" if status >= FAILURE else "SUCCESS",
        }
        if status >= FAILURE:
            fields |= {"http.status_code": str(status), "error": g.get("error", "")}
        beast = self._beast()
        level = logging.ERROR if status >= SERVER_FAILURE else logging.INFO
        log.log(
            level,
            "page request served",
            extra={"fields": fields, "tags": {self._endpoints.tag: beast} if beast else {}},
        )

    def _method(self) -> str:
        return request.method if request.method in HTTP_METHODS else OTHER

    def _route(self) -> str:
        return request.url_rule.rule if request.url_rule else UNKNOWN

    def _beast(self) -> str | None:
        beast = (request.view_args or {}).get("beast")
        return beast if beast in self._endpoints.danger else None
