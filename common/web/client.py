"""Outgoing HTTP requests to one server, by the conventions: attributes of the current span, and a histogram."""

import time
from collections.abc import Mapping
from itertools import count

import urllib3
from opentelemetry import trace
from opentelemetry.metrics import Meter
from opentelemetry.trace import StatusCode
from opentelemetry.util.types import AttributeValue

from common.core.address import join_host_port
from common.telemetry.semconv import HTTP_DURATION_BUCKETS_S
from common.telemetry.settings import Conventions

FAILURE = 400
# A connection stays with one server. So that servers that are added later get their share too, as behind a Service of
# Kubernetes, one request of so many asks the server to close its connection afterwards. The response announces that
# (RFC 9112, section 9.6), so no request is sent on a connection that is about to be closed.
RENEW_AFTER = 100


class HttpClient:
    """Sends requests to `server` (host, port) and keeps up to `connections` connections open, in `pool`."""

    def __init__(self, server: tuple[str, int], meter: Meter, *, connections: int, conventions: Conventions) -> None:
        self._host, self._port = server
        self._sent = count(1)
        self._conventions = conventions
        self.pool = urllib3.HTTPConnectionPool(
            self._host,
            self._port,
            maxsize=connections,
            block=False,
            retries=False,  # a retry would be a second request, which is for the caller to decide
            timeout=urllib3.Timeout(connect=1.0, read=5.0),
        )
        self.unreachable = f"the server at {join_host_port(self._host, self._port)} cannot be reached"
        self._duration = meter.create_histogram(
            "http.client.request.duration",
            unit="s",
            description="Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=HTTP_DURATION_BUCKETS_S,
        )

    def attributes(self, method: str, path: str) -> dict[str, AttributeValue]:
        """Return the attributes with which the CLIENT span of a request starts; `path` has no query."""
        attributes: dict[str, AttributeValue] = {}
        url = f"http://{join_host_port(self._host, self._port)}{path}"
        if self._conventions.old_http:
            attributes |= {
                "http.method": method,
                "http.target": path,
                "http.url": url,
                "net.peer.name": self._host,
                "net.peer.port": self._port,
            }
        if self._conventions.new_http:
            attributes |= {
                "http.request.method": method,
                "url.full": url,
                "server.address": self._host,
                "server.port": self._port,
            }
        return attributes

    def send(
        self, method: str, target: str, body: str | bytes | None, headers: Mapping[str, str]
    ) -> urllib3.BaseHTTPResponse:
        """Send a request inside its CLIENT span, and return the response of any status.

        Raise urllib3.exceptions.HTTPError if there is no response. An error or a status of 400 or more
        marks the span as failed.
        """
        if next(self._sent) % RENEW_AFTER == 0:
            headers = {**headers, "Connection": "close"}
        labels: dict[str, AttributeValue] = {
            "http.request.method": method,
            "server.address": self._host,
            "server.port": self._port,
        }
        span = trace.get_current_span()
        failure = ""
        start = time.perf_counter()
        try:
            answer = self.pool.request(method, target, body=body, headers=headers)
            labels["http.response.status_code"] = answer.status
            if self._conventions.old_http:
                span.set_attribute("http.status_code", answer.status)
            if self._conventions.new_http:
                span.set_attribute("http.response.status_code", answer.status)
            if answer.status >= FAILURE:
                labels["error.type"], failure = str(answer.status), f"the server answered {answer.status}"
            return answer
        except urllib3.exceptions.HTTPError as error:
            labels["error.type"], failure = type(error).__name__, self.unreachable
            raise
        finally:
            self._duration.record(time.perf_counter() - start, labels)
            if failure:
                span.set_attribute("error.type", labels["error.type"])
                span.set_status(StatusCode.ERROR, failure)
