"""One request over HTTP, and its span."""

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

NO_FAULTS = Faults({}, random.Random(1))  # noqa: S311 - dice, not secrets
BOTH = Conventions(old_http=True, new_http=True, old_database=True, new_database=True)
OLD = Conventions(old_http=True, new_http=False, old_database=True, new_database=False)
NEW = Conventions(old_http=False, new_http=True, old_database=False, new_database=True)

OLD_NAMES = {"http.method", "http.target", "http.url", "http.status_code", "net.peer.name", "net.peer.port"}
NEW_NAMES = {"http.request.method", "url.full", "http.response.status_code", "server.address", "server.port"}


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of its own."""
    made = Server()
    yield made
    made.close()


@contextmanager
def client(
    told: Recorded, address: tuple[str, int], conventions: Conventions = BOTH, of: EndpointSet = MYTHICAL
) -> Iterator[Client]:
    """A client of that server, closed at the end."""
    made = Client(address, of, told.tracer, told.meter, connections=1, conventions=conventions, faults=NO_FAULTS)
    try:
        yield made
    finally:
        made.close()


def ask(
    told: Recorded, address: tuple[str, int], method: str = "GET", body: dict[str, str] | None = None
) -> list[dict[str, str]]:
    """Make one request."""
    with client(told, address) as asker, asker.span(method, "unicorn", None):
        return asker.send(method, "unicorn", body)


def test_names_come_back_from_a_get(server: Server) -> None:
    """As the server listed them."""
    assert ask(Recorded(), server.address) == [{"name": "sly_otter"}]
    assert [(method, path, body) for method, path, _, body in server.asked] == [("GET", "/unicorn", b"")]


@pytest.mark.parametrize(("method", "status"), [("POST", 201), ("DELETE", 204)])
def test_a_body_is_sent_as_json(server: Server, method: str, status: int) -> None:
    """And what comes back is not looked at."""
    server.status, server.body = status, b""
    assert ask(Recorded(), server.address, method, {"name": "Ægir"}) == []
    ((_, _, headers, body),) = server.asked
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body) == {"name": "Ægir"}


def test_the_request_carries_the_span_on(server: Server) -> None:
    """W3C trace context: the server's span becomes the child of this one."""
    told = Recorded()
    ask(told, server.address)
    context = told.context
    version, *ids, _ = server.asked[0][2]["traceparent"].split("-")
    assert (version, ids) == ("00", [f"{context.trace_id:032x}", f"{context.span_id:016x}"])


def test_the_propagator_is_the_global_one(server: Server) -> None:
    """That of OTEL_PROPAGATORS; with `baggage` alone the server makes a trace of its own."""
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(W3CBaggagePropagator())
    token = context.attach(baggage.set_baggage("tenant", "7"))
    try:
        ask(Recorded(), server.address)
    finally:
        context.detach(token)
        propagate.set_global_textmap(before)
    headers = server.asked[0][2]
    assert headers["baggage"] == "tenant=7"
    assert "traceparent" not in headers


@pytest.mark.parametrize(
    ("conventions", "names"),
    [(BOTH, OLD_NAMES | NEW_NAMES), (OLD, OLD_NAMES), (NEW, NEW_NAMES)],
    ids=["both", "old", "new"],
)
def test_the_span_speaks_the_generations_that_are_in_force(
    server: Server, conventions: Conventions, names: set[str]
) -> None:
    """The old names for dashboards that ask for them, the new ones for the rest of the world."""
    told = Recorded()
    with client(told, server.address, conventions) as asker, asker.span("GET", "unicorn", None):
        asker.send("GET", "unicorn")
    said = attributes(told.span)
    assert set(said) == names | {"beast", "peer.service"}
    assert (said["beast"], said["peer.service"]) == ("unicorn", "mythical-server")
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
        assert said.get(name, value) == value


def test_an_ipv6_address_has_brackets_in_the_url_alone() -> None:
    """`url.full` must be a URL; `server.address` is the address itself. Nothing needs to listen there."""
    told = Recorded()
    with client(told, ("::1", 1), NEW) as asker, asker.span("GET", "unicorn", None):
        pass
    said = attributes(told.span)
    assert (said["url.full"], said["server.address"]) == ("http://[::1]:1/unicorn", "::1")


def test_there_is_one_client_span_and_it_is_the_root(server: Server) -> None:
    """A second one would count double and keep the service graph from pairing client and server."""
    told = Recorded()
    with told.tracer.start_as_current_span("before") as before:
        previous = before.get_span_context()
    with client(told, server.address) as asker, asker.span("GET", "unicorn", previous):
        asker.send("GET", "unicorn")
    span = told.spans[-1]
    assert (span.name, span.kind, span.parent) == ("requester", SpanKind.CLIENT, None)
    assert [link.context for link in span.links] == [previous]
    assert span.status.status_code is StatusCode.UNSET


def test_the_boring_catalogue_names_its_endpoint(server: Server) -> None:
    """The span attribute `endpoint` takes the place of `beast`."""
    told = Recorded()
    with client(told, server.address, of=BORING) as asker, asker.span("GET", "login", None):
        asker.send("GET", "login")
    assert attributes(told.span)["endpoint"] == "login"
    assert "beast" not in attributes(told.span)


@pytest.mark.parametrize("status", [400, 404, 409, 500, 503])
def test_a_refusal_is_a_failure_with_its_status(server: Server, status: int) -> None:
    """On the span, in the metric, and as an error for the journey."""
    server.status = status
    told = Recorded()
    with pytest.raises(RequestFailed) as failure:
        ask(told, server.address)
    assert failure.value.kind == str(status)
    said = attributes(told.span)
    assert said["http.status_code"] == said["http.response.status_code"] == status
    assert said["error.type"] == str(status)
    assert told.span.status.status_code is StatusCode.ERROR
    ((labels, point),) = told.points("http.client.request.duration")
    assert labels == {
        "http.request.method": "GET",
        "server.address": server.address[0],
        "server.port": server.address[1],
        "http.response.status_code": status,
        "error.type": str(status),
    }
    assert point.count == 1


def test_a_server_that_is_away_is_a_failure_that_names_it() -> None:
    """One line for the log: who cannot be reached, without a stack trace."""
    server = Server()
    server.close()
    told = Recorded()
    with pytest.raises(RequestFailed, match=rf"127\.0\.0\.1:{server.address[1]} cannot be reached"):
        ask(told, server.address)
    said = attributes(told.span)
    assert said["error.type"] == "NewConnectionError"
    assert "http.status_code" not in said
    ((labels, _),) = told.points("http.client.request.duration")
    assert labels["error.type"] == "NewConnectionError"


def test_a_server_that_hangs_up_is_a_failure_and_not_asked_twice(server: Server) -> None:
    """A second try would be a second request: the journey decides, not the transport."""
    server.breaks = True
    with pytest.raises(RequestFailed):
        ask(Recorded(), server.address, "POST", {"name": "x"})
    assert len(server.asked) == 1


@pytest.mark.parametrize("body", [b"<html>", b"", b"\xff", b'{"name": "x"}', b'["x"]', b'[{"id": 1}]', b"[" * 100_000])
def test_an_answer_that_is_no_list_of_names_is_a_failure(server: Server, body: bytes) -> None:
    """Something else listens at the address; the span says so, and the loop goes on."""
    server.body = body
    told = Recorded()
    with pytest.raises(RequestFailed, match="no list of names"):
        ask(told, server.address)
    assert told.span.status.status_code is StatusCode.ERROR
    assert attributes(told.span)["error.type"] == "UnreadableAnswer"


def test_a_connection_is_kept(server: Server) -> None:
    """A new one for each request would cost more than the request."""
    with client(Recorded(), server.address) as asker:
        for _ in range(5):
            with asker.span("GET", "unicorn", None):
                asker.send("GET", "unicorn")
    assert server.connections == 1


def test_the_duration_is_measured_in_seconds_with_an_exemplar(server: Server) -> None:
    """From the histogram one gets to the trace."""
    told = Recorded()
    ask(told, server.address)
    ((labels, point),) = told.points("http.client.request.duration")
    assert "error.type" not in labels
    assert 0 < point.sum < 5
    assert [exemplar.trace_id for exemplar in point.exemplars] == [told.context.trace_id]
