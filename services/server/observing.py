"""What telemetry says of a request, in one place: its span's attributes, one histogram value, one log line."""

import logging
import time

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
        g.start = time.perf_counter()
        beast = (request.view_args or {}).get("beast", UNKNOWN)
        g.beast = beast if beast in self._catalogue.danger else UNKNOWN
        g.method = request.method if request.method in METHODS else "_OTHER"
        span = trace.get_current_span()
        if span.is_recording():
            span.set_attributes(self._attributes(g.beast, g.method))

    def _attributes(self, beast: str, method: str) -> dict[str, str | int]:
        """What the instrumentation leaves out, at a quarter of what it costs to have it give both conventions.

        `http.target` is a dimension of span metrics, so it comes from the catalogue, not from the caller, and bears
        no query. `server.address` has no port, which the instrumentation leaves on.
        """
        host, _, port = request.host.partition(":")
        attributes: dict[str, str | int] = {} if beast == UNKNOWN else {self._catalogue.tag: beast}
        if self._conventions.new_http:
            attributes["server.address"] = host
        if self._conventions.old_http:
            attributes |= {
                "http.method": method,
                "http.target": f"/{beast}",
                "http.scheme": request.scheme,
                "http.flavor": request.environ.get("SERVER_PROTOCOL", "HTTP/1.1").removeprefix("HTTP/"),
                "http.user_agent": request.headers.get("User-Agent", ""),
                "net.host.name": host,
                "net.host.port": int(port) if port.isdecimal() else 80,
                "net.peer.ip": request.remote_addr or "",
            }
        return attributes

    def _end(self, response: Response) -> Response:
        took_s = time.perf_counter() - g.start
        status = response.status_code
        if self._conventions.old_http:
            trace.get_current_span().set_attribute("http.status_code", status)
        self._times.record(took_s * 1000, {"method": g.method, "status": str(status), self._catalogue.tag: g.beast})
        labels: dict[str, str | int] = {
            "http.request.method": g.method,
            "http.response.status_code": status,
            "http.route": request.url_rule.rule if request.url_rule else UNKNOWN,
        }
        if status >= SERVER_FAILURE:
            labels["error.type"] = str(status)
        self._duration.record(took_s, labels)
        self._log(response)
        return response

    def _log(self, response: Response) -> None:
        failed = response.status_code >= FAILURE
        fields = {"http.method": g.method, "endpoint": g.beast, "status": "FAILURE" if failed else "SUCCESS"}
        if failed:
            fields |= {"http.status_code": str(response.status_code), "error": g.get("error", response.status)}
        tags = {} if g.beast == UNKNOWN else {self._catalogue.tag: g.beast}
        level = logging.ERROR if response.status_code >= SERVER_FAILURE else logging.INFO
        log.log(level, "request served", extra={"fields": fields, "tags": tags})
