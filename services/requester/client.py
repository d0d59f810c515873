"""Requests to the server over kept connections, each with its CLIENT span."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import urllib3
from opentelemetry import propagate, trace
from opentelemetry.metrics import Meter
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, Tracer
from opentelemetry.util.types import AttributeValue

from common.core.address import join_host_port
from common.core.endpoints import EndpointSet
from common.faults import BROKEN_PROPAGATION, Faults
from common.telemetry.semconv import HTTP_DURATION_BUCKETS_S
from common.telemetry.settings import Conventions

FAILURE = 400


class RequestFailed(Exception):
    """No answer, or one that is an error or unreadable; `kind` is a status or the name of an error."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Client:
    """Sends requests to the server at `server` (host, port), over at most `connections` connections."""

    def __init__(
        self,
        server: tuple[str, int],
        catalogue: EndpointSet,
        tracer: Tracer,
        meter: Meter,
        *,
        connections: int,
        conventions: Conventions,
        faults: Faults,
    ) -> None:
        self._host, self._port = server
        self._catalogue = catalogue
        self._tracer = tracer
        self._conventions = conventions
        self._faults = faults
        self._http = urllib3.HTTPConnectionPool(
            self._host,
            self._port,
            maxsize=connections,
            block=False,
            retries=False,  # a retry would be a second request, which is for the caller to decide
            timeout=urllib3.Timeout(connect=1.0, read=5.0),
        )
        self._duration = meter.create_histogram(
            "http.client.request.duration",
            unit="s",
            description="Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=HTTP_DURATION_BUCKETS_S,
        )

    @contextmanager
    def span(self, method: str, beast: str, previous: SpanContext | None) -> Iterator[Span]:
        """Start the span `requester` of a request, linked to the one before it. An error in the block marks the span.

        It is a span of its own trace, and the only CLIENT span of the request: a second one around or inside it would
        count double in span metrics and keep the service graph from pairing client and server.
        """
        with self._tracer.start_as_current_span(
            "requester",
            kind=SpanKind.CLIENT,
            attributes=self._attributes(method, beast),
            links=[Link(previous, {"mythical.link": "previous request"})] if previous else None,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield span
            except RequestFailed as failure:
                span.set_attribute("error.type", failure.kind)
                span.set_status(Status(StatusCode.ERROR, str(failure)))
                raise

    def send(self, method: str, beast: str, body: dict[str, str] | None = None) -> list[dict[str, str]]:
        """Send a request inside the block of its span. Return the names in the answer, if any; raise RequestFailed."""
        headers: dict[str, str] = {}
        if not self._faults.should_trigger(BROKEN_PROPAGATION):
            propagate.inject(headers)
        payload = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            payload = json.dumps(body)
        labels: dict[str, AttributeValue] = {
            "http.request.method": method,
            "server.address": self._host,
            "server.port": self._port,
        }
        start = time.perf_counter()
        try:
            answer = self._http.request(method, f"/{beast}", body=payload, headers=headers)
            labels["http.response.status_code"] = answer.status
            self._set_status_attributes(trace.get_current_span(), answer.status)
            if answer.status >= FAILURE:
                raise RequestFailed(str(answer.status), f"the server answered {answer.status}")
            return _names(answer.data) if method == "GET" else []
        except urllib3.exceptions.HTTPError as error:
            labels["error.type"] = kind = type(error).__name__
            raise RequestFailed(
                kind, f"the server at {join_host_port(self._host, self._port)} cannot be reached"
            ) from error
        except RequestFailed as failure:
            labels["error.type"] = failure.kind
            raise
        finally:
            self._duration.record(time.perf_counter() - start, labels)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _attributes(self, method: str, beast: str) -> dict[str, AttributeValue]:
        attributes: dict[str, AttributeValue] = {self._catalogue.tag: beast, "peer.service": "mythical-server"}
        url = f"http://{join_host_port(self._host, self._port)}/{beast}"
        if self._conventions.old_http:
            attributes |= {
                "http.method": method,
                "http.target": f"/{beast}",
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

    def _set_status_attributes(self, span: Span, status: int) -> None:
        if self._conventions.old_http:
            span.set_attribute("http.status_code", status)
        if self._conventions.new_http:
            span.set_attribute("http.response.status_code", status)


def _names(body: bytes) -> list[dict[str, str]]:
    """Read the answer to a GET; raise RequestFailed, since something else may listen at the server's address."""
    try:
        names = json.loads(body)
    except (ValueError, RecursionError):
        names = None
    if isinstance(names, list) and all(isinstance(row, dict) and isinstance(row.get("name"), str) for row in names):
        return names
    raise RequestFailed("UnreadableAnswer", "the answer of the server is no list of names")
