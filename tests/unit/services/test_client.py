"""The requester's client sends one request over HTTP and records its span and metric."""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from opentelemetry import baggage, context, propagate
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.trace import SpanKind, StatusCode

from common.core.endpoints import BORING, MYTHICAL, EndpointSet
from common.faults import Faults
from common.telemetry.settings import Conventions
from services.requester.client import Client, RequestFailed
from tests.unit.services.http_server import Server
from tests.unit.services.recorded import Recorded, attributes

NO_FAULTS = Faults({}, random.Random(1))  # noqa: S311 - not for secrets
BOTH = Conventions(old_http=True, new_http=True, old_database=True, new_database=True)
OLD = Conventions(old_http=True, new_http=False, old_database=True, new_database=False)
NEW = Conventions(old_http=False, new_http=True, old_database=False, new_database=True)

OLD_NAMES = {"http.method", "http.target", "http.url", "http.status_code", "net.peer.name", "net.peer.port"}
NEW_NAMES = {"http.request.method", "url.full", "http.response.status_code", "server.address", "server.port"}


@pytest.fixture
def server() -> Iterator[Server]:
    """Start a server for one test."""
    made = Server()
    yield made
    made.close()


@contextmanager
def client(
    telemetry: Recorded, address: tuple[str, int], conventions: Conventions = BOTH, of: EndpointSet = MYTHICAL
) -> Iterator[Client]:
    """Return a client of that server, which is closed at the end."""
    made = Client(
        address, of, telemetry.tracer, telemetry.meter, connections=1, conventions=conventions, faults=NO_FAULTS
    )
    try:
        yield made
    finally:
        made.close()


def request(
    telemetry: Recorded, address: tuple[str, int], method: str = "GET", body: dict[str, str] | None = None
) -> list[dict[str, str]]:
    """Send one request."""
    with client(telemetry, address) as http, http.span(method, "unicorn", None):
        return http.send(method, "unicorn", body)


def test_a_get_returns_names(server: Server) -> None:
    """They are in the order of the server."""
    assert request(Recorded(), server.address) == [{"name": "sly_otter"}]
    assert [(method, path, body) for method, path, _, body in server.requests] == [("GET", "/unicorn", b"")]


@pytest.mark.parametrize(("method", "status"), [("POST", 201), ("DELETE", 204)])
def test_a_body_is_sent_as_json(server: Server, method: str, status: int) -> None:
    """The body of the response is ignored."""
    server.status, server.body = status, b""
    assert request(Recorded(), server.address, method, {"name": "Ægir"}) == []
    ((_, _, headers, body),) = server.requests
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body) == {"name": "Ægir"}


def test_the_request_propagates_the_trace(server: Server) -> None:
    """With W3C trace context, the server's span becomes the child of this one."""
    telemetry = Recorded()
    request(telemetry, server.address)
    context = telemetry.context
    version, *ids, _ = server.requests[0][2]["traceparent"].split("-")
    assert (version, ids) == ("00", [f"{context.trace_id:032x}", f"{context.span_id:016x}"])


def test_the_propagator_is_the_global_one(server: Server) -> None:
    """OTEL_PROPAGATORS sets it; with `baggage` only, the server starts another trace."""
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(W3CBaggagePropagator())
    token = context.attach(baggage.set_baggage("tenant", "7"))
    try:
        request(Recorded(), server.address)
    finally:
        context.detach(token)
        propagate.set_global_textmap(before)
    headers = server.requests[0][2]
    assert headers["baggage"] == "tenant=7"
    assert "traceparent" not in headers


@pytest.mark.parametrize(
    ("conventions", "names"),
    [(BOTH, OLD_NAMES | NEW_NAMES), (OLD, OLD_NAMES), (NEW, NEW_NAMES)],
    ids=["both", "old", "new"],
)
def test_the_span_has_attributes_of_the_selected_conventions(
    server: Server, conventions: Conventions, names: set[str]
) -> None:
    """Dashboards query the old names; other tools expect the new ones."""
    telemetry = Recorded()
    with client(telemetry, server.address, conventions) as http, http.span("GET", "unicorn", None):
        http.send("GET", "unicorn")
    recorded = attributes(telemetry.span)
    assert set(recorded) == names | {"beast", "peer.service"}
    assert (recorded["beast"], recorded["peer.service"]) == ("unicorn", "mythical-server")
    host, port = server.address
    for name, value in {
        "http.method": "GET",
        "http.request.method": "GET",
        "http.target": "/unicorn",
        "http.url": f"http://{host}:{port}/unicorn",
        "url.full": f"http://{host}:{port}/unicorn",
        "http.status_code": 200,
        "http.response.status_code": 200,
        "server.address": host,
        "net.peer.name": host,
        "server.port": port,
        "net.peer.port": port,
    }.items():
        assert recorded.get(name, value) == value


def test_an_ipv6_address_has_brackets_only_in_the_url() -> None:
    """`url.full` must be a URL; `server.address` is the address without brackets. Nothing needs to listen there."""
    telemetry = Recorded()
    with client(telemetry, ("::1", 1), NEW) as http, http.span("GET", "unicorn", None):
        pass
    recorded = attributes(telemetry.span)
    assert (recorded["url.full"], recorded["server.address"]) == ("http://[::1]:1/unicorn", "::1")


def test_there_is_one_client_span_and_it_is_the_root(server: Server) -> None:
    """A second span would count twice and prevent the service graph from matching client and server."""
    telemetry = Recorded()
    with telemetry.tracer.start_as_current_span("before") as before:
        previous = before.get_span_context()
    with client(telemetry, server.address) as http, http.span("GET", "unicorn", previous):
        http.send("GET", "unicorn")
    span = telemetry.spans[-1]
    assert (span.name, span.kind, span.parent) == ("requester", SpanKind.CLIENT, None)
    assert [link.context for link in span.links] == [previous]
    assert span.status.status_code is StatusCode.UNSET


def test_the_boring_catalogue_names_its_endpoint(server: Server) -> None:
    """The span attribute is `endpoint` instead of `beast`."""
    telemetry = Recorded()
    with client(telemetry, server.address, of=BORING) as http, http.span("GET", "login", None):
        http.send("GET", "login")
    assert attributes(telemetry.span)["endpoint"] == "login"
    assert "beast" not in attributes(telemetry.span)


@pytest.mark.parametrize("status", [400, 404, 409, 500, 503])
def test_an_error_status_is_a_failure(server: Server, status: int) -> None:
    """The span, the metric, and the exception have the status."""
    server.status = status
    telemetry = Recorded()
    with pytest.raises(RequestFailed) as failure:
        request(telemetry, server.address)
    assert failure.value.kind == str(status)
    recorded = attributes(telemetry.span)
    assert recorded["http.status_code"] == recorded["http.response.status_code"] == status
    assert recorded["error.type"] == str(status)
    assert telemetry.span.status.status_code is StatusCode.ERROR
    ((labels, point),) = telemetry.points("http.client.request.duration")
    assert labels == {
        "http.request.method": "GET",
        "server.address": server.address[0],
        "server.port": server.address[1],
        "http.response.status_code": status,
        "error.type": str(status),
    }
    assert point.count == 1


def test_an_unavailable_server_is_a_failure_that_names_it() -> None:
    """The message is one line without a stack trace."""
    server = Server()
    server.close()
    telemetry = Recorded()
    with pytest.raises(RequestFailed, match=rf"127\.0\.0\.1:{server.address[1]} cannot be reached"):
        request(telemetry, server.address)
    recorded = attributes(telemetry.span)
    assert recorded["error.type"] == "NewConnectionError"
    assert "http.status_code" not in recorded
    ((labels, _),) = telemetry.points("http.client.request.duration")
    assert labels["error.type"] == "NewConnectionError"


def test_a_server_that_disconnects_is_a_failure_without_a_retry(server: Server) -> None:
    """A retry would be a second request, which only the request round may decide."""
    server.breaks = True
    with pytest.raises(RequestFailed):
        request(Recorded(), server.address, "POST", {"name": "x"})
    assert len(server.requests) == 1


@pytest.mark.parametrize("body", [b"<html>", b"", b"\xff", b'{"name": "x"}', b'["x"]', b'[{"id": 1}]', b"[" * 100_000])
def test_a_response_that_is_not_a_list_of_names_is_a_failure(server: Server, body: bytes) -> None:
    """Another program listens at the address; the span has the error, and the loop continues."""
    server.body = body
    telemetry = Recorded()
    with pytest.raises(RequestFailed, match="not a list of names"):
        request(telemetry, server.address)
    assert telemetry.span.status.status_code is StatusCode.ERROR
    assert attributes(telemetry.span)["error.type"] == "UnreadableAnswer"


def test_the_connection_is_reused(server: Server) -> None:
    """A new connection for each request would cost more than the request."""
    with client(Recorded(), server.address) as http:
        for _ in range(5):
            with http.span("GET", "unicorn", None):
                http.send("GET", "unicorn")
    assert server.connections == 1


def test_the_duration_is_measured_in_seconds_with_an_exemplar(server: Server) -> None:
    """The exemplar links the histogram to the trace."""
    telemetry = Recorded()
    request(telemetry, server.address)
    ((labels, point),) = telemetry.points("http.client.request.duration")
    assert "error.type" not in labels
    assert 0 < point.sum < 5
    assert [exemplar.trace_id for exemplar in point.exemplars] == [telemetry.context.trace_id]
