"""What telemetry says of a request, in one place: its span's attributes, one histogram value, one log line."""

import logging
import time

from flask import Flask, Response, g, request
from opentelemetry import trace
from opentelemetry.metrics import Meter

from common.beasts import Catalogue

log = logging.getLogger(__name__)

# The buckets that the dashboards were drawn for, in milliseconds.
BUCKETS_MS = (10, 20, 50, 100, 200, 500, 1000, 2000, 4000, 8000, 16000)

# What stands for anything that a caller made up: an address or a method as it came would let anyone create series.
UNKNOWN = "unknown"
METHODS = frozenset({"GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"})

FAILURE = 400


class Observing:
    """Watches each request of an app from its start to its answer."""

    def __init__(self, meter: Meter, catalogue: Catalogue, conventions: str) -> None:
        self._catalogue = catalogue
        self._old = "http" not in conventions.split(",")
        # No unit: it would become part of the name in Prometheus, and the name is one that dashboards rely on.
        self._times = meter.create_histogram(
            "mythical_request_times",
            description="Time to answer a request, in milliseconds.",
            explicit_bucket_boundaries_advisory=BUCKETS_MS,
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
            span.set_attributes(self._attributes(g.beast))

    def _attributes(self, beast: str) -> dict[str, str]:
        attributes = {} if beast == UNKNOWN else {self._catalogue.tag: beast}
        if self._old:
            # As a dimension of span metrics it must come from the catalogue, not from the caller, and bear no query.
            attributes["http.target"] = f"/{beast}"
        return attributes

    def _end(self, response: Response) -> Response:
        took_ms = (time.perf_counter() - g.start) * 1000
        status = str(response.status_code)
        self._times.record(took_ms, {"method": g.method, "status": status, self._catalogue.tag: g.beast})
        failed = response.status_code >= FAILURE
        fields = {"http.method": g.method, "endpoint": g.beast, "status": "FAILURE" if failed else "SUCCESS"}
        if failed:
            fields |= {"http.status_code": status, "error": g.get("error", response.status)}
        tags = {} if g.beast == UNKNOWN else {self._catalogue.tag: g.beast}
        level = logging.ERROR if response.status_code >= 500 else logging.INFO  # noqa: PLR2004 - the server's own fault
        log.log(level, "request served", extra={"fields": fields, "tags": tags})
        return response
