"""Requests to the server, each with its CLIENT span."""

import json
from contextlib import AbstractContextManager

import urllib3
from opentelemetry import propagate, trace
from opentelemetry.metrics import Meter
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode, Tracer

from common.core.endpoints import EndpointSet
from common.faults import BROKEN_PROPAGATION, Faults
from common.telemetry.settings import Conventions
from common.web.client import FAILURE, HttpClient


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
        self._http = HttpClient(server, meter, connections=connections, conventions=conventions)
        self._catalogue = catalogue
        self._tracer = tracer
        self._faults = faults

    def span(self, method: str, beast: str, previous: SpanContext | None) -> AbstractContextManager[Span]:
        """Return the span `requester` of a request, to be current while it is sent; linked to the one before it.

        It is a span of its own trace, and the only CLIENT span of the request: a second one around or inside it would
        count double in span metrics and keep the service graph from pairing client and server.
        """
        return self._tracer.start_as_current_span(
            "requester",
            kind=SpanKind.CLIENT,
            attributes={
                self._catalogue.tag: beast,
                "peer.service": "mythical-server",
                **self._http.attributes(method, f"/{beast}"),
            },
            links=[Link(previous, {"mythical.link": "previous request"})] if previous else None,
            record_exception=False,
            set_status_on_exception=False,
        )

    def send(self, method: str, beast: str, body: dict[str, str] | None = None) -> list[dict[str, str]]:
        """Send a request inside the block of its span. Return the names in the answer, if any; raise RequestFailed."""
        headers: dict[str, str] = {}
        if not self._faults.should_trigger(BROKEN_PROPAGATION):
            propagate.inject(headers)
        payload = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            payload = json.dumps(body)
        try:
            answer = self._http.send(method, f"/{beast}", payload, headers)
        except urllib3.exceptions.HTTPError as error:
            raise RequestFailed(type(error).__name__, self._http.unreachable) from error
        if answer.status >= FAILURE:
            raise RequestFailed(str(answer.status), f"the server answered {answer.status}")
        return _names(answer.data) if method == "GET" else []

    def close(self) -> None:
        """Close the connections."""
        self._http.pool.close()


def _names(body: bytes) -> list[dict[str, str]]:
    """Read the answer to a GET; raise RequestFailed, since something else may listen at the server's address."""
    try:
        names = json.loads(body)
    except (ValueError, RecursionError):
        names = None
    if isinstance(names, list) and all(isinstance(row, dict) and isinstance(row.get("name"), str) for row in names):
        return names
    failure = RequestFailed("UnreadableAnswer", "the response of the server is not a list of names")
    span = trace.get_current_span()
    span.set_attribute("error.type", failure.kind)
    span.set_status(StatusCode.ERROR, str(failure))
    raise failure
