"""What the server adds to the telemetry of a request: the original's histogram and log line."""

import logging

from flask import Response
from opentelemetry.metrics import Meter

from common.telemetry.semconv import SYNTHETIC
from common.web.request_telemetry import UNKNOWN, RequestState, log_level, outcome

log = logging.getLogger(__name__)

# The buckets that the dashboards were drawn for, in milliseconds.
BUCKETS_MS = (10, 20, 50, 100, 200, 500, 1000, 2000, 4000, 8000, 16000)


class RequestTimes:
    """The histogram and the log line; `tag` is the label that has the beast as its value."""

    def __init__(self, meter: Meter, tag: str) -> None:
        self._tag = tag
        # No unit: it would become part of the name in Prometheus, and the name is one that dashboards rely on.
        self._times = meter.create_histogram(
            "mythical_request_times",
            description="Time to answer a request, in milliseconds.",
            explicit_bucket_boundaries_advisory=BUCKETS_MS,
        )

    def record(self, state: RequestState, response: Response, duration_s: float) -> None:
        """Record a request that took `duration_s` seconds, inside its span."""
        labels = {"method": state.method, "status": str(response.status_code), self._tag: state.beast}
        if state.synthetic:
            labels[SYNTHETIC] = state.synthetic[SYNTHETIC]
        self._times.record(duration_s * 1000, labels)
        fields = {"http.method": state.method, "endpoint": state.beast, **outcome(state, response)}
        tags = {} if state.beast == UNKNOWN else {self._tag: state.beast}
        json_fields = {"path": f"/{state.beast}", "duration": round(duration_s, 6)}
        extra = {"fields": fields, "tags": tags, "json_fields": json_fields}
        log.log(log_level(response), "request served", extra=extra)
