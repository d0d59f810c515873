"""Clients that announce a body and do not send it: how many block a service, and the effect on other clients."""

import itertools
import json
import select
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from local.servers.postgres import Postgres
from tests.failure.conftest import Measured
from tests.failure.fault_page import fault_page
from tests.failure.slow_bodies import SlowBodies, durations
from tests.integration.conftest import Gateway, Service, eventually
from tests.integration.service_support import JSON, SILENT, ask, database_settings, fleet, own_database

pytestmark = pytest.mark.timeout(200)

# The default of HTTP_THREADS, at the server also that of HTTP_QUEUE, and four spare ones.
SERVER_THREADS = 4 + 128 + 4
OTHER_THREADS = 4 + 4
UNANSWERED_S = 1.0
SLOW_CLIENTS = 300
TIMEOUT_S = 30.0


@pytest.fixture
def server(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server with a separate database, without injected faults."""
    folder = tmp_path_factory.mktemp("slow")
    with own_database(postgres) as name, fleet(folder, SILENT, database_settings(postgres, name)) as services:
        yield services.start("server", FAULT_NULL_NAME="0")


def add(server: Service, name: object) -> int:
    """Add a unicorn; wait up to a minute for the response, and return its status."""
    body = f'{{"name": "{name}"}}'
    return ask(server.base_url, "/unicorn", "POST", body=body, headers=JSON, timeout_s=60).status


def names(server: Service) -> list[str]:
    """Return the names in the table of unicorns, from all pages of the response."""
    found: list[str] = []
    path = "/unicorn?limit=1000"
    while path:
        response = ask(server.base_url, path)
        found += [each["name"] for each in json.loads(response.body)]
        link = response.headers["Link"] or ""
        path = link[link.index("<") + 1 : link.index(">")] if 'rel="next"' in link else ""
    return found


def is_blocked(service: Service) -> bool:
    """Return whether a request gets no response because other clients occupy all threads."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        return not select.select([connection], [], [], UNANSWERED_S)[0]


def test_slow_bodies_do_not_block_others_while_a_thread_is_free(server: Service, measured: Measured) -> None:
    """With one slow client fewer than threads, others read, write and use the admin endpoints."""
    count = itertools.count()
    with SlowBodies(server.port, "/unicorn", SERVER_THREADS - 1):
        reads = durations(lambda: ask(server.base_url, "/unicorn?limit=1").status, 100, 200)
        writes = durations(lambda: add(server, next(count)), 100, 201)
        durations(lambda: ask(server.base_url, "/readyz").status, 10, 200)
    measured(
        f"{SERVER_THREADS - 1} clients with slow bodies; reads within {reads[50] * 1000:.0f} ms, the slowest "
        f"{reads[-1]:.2f} s, writes within {writes[50] * 1000:.0f} ms, the slowest {writes[-1]:.2f} s"
    )


def test_requests_wait_and_none_is_lost_with_a_slow_body_for_every_thread(server: Service, measured: Measured) -> None:
    """They are answered as soon as one slow client disconnects or sends the rest; each write is stored once.

    The bodies arrive at the same time and are more than may wait, so the server may reject some of them.
    """
    with SlowBodies(server.port, "/unicorn", SERVER_THREADS, kinds=("silent",)) as slow, ThreadPoolExecutor(20) as pool:
        eventually(lambda: is_blocked(server))
        waiting = [pool.submit(add, server, f"waiting-{number}") for number in range(20)]
        assert is_blocked(server)
        assert not any(each.done() for each in waiting)
        slow.disconnect()
        assert [each.result() for each in waiting] == [201] * 20
        statuses = slow.finish()
    assert len(statuses) == SERVER_THREADS - 1
    assert {201} <= set(statuses.values()) <= {201, 503}
    stored = {name for name, status in statuses.items() if status == 201}
    expected = {f"waiting-{number}" for number in range(20)} | stored
    found = names(server)
    measured(
        f"{SERVER_THREADS} clients with slow bodies block the server; 20 writes waited and were served once one "
        f"client had disconnected; {len(found)} of {len(expected)} names are stored"
    )
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("name", ["requester", "recorder"])
def test_the_other_services_have_fewer_threads(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """They serve only admin endpoints: with one slow client fewer than threads, others are answered."""
    with fleet(tmp_path_factory.mktemp(name), SILENT) as services:
        service = services.start(name, until="/healthz")
        with SlowBodies(service.port, "/faults/clock_shift", OTHER_THREADS - 1, method="PUT"):
            durations(lambda: ask(service.base_url, "/metrics").status, 50, 200)
        with SlowBodies(service.port, "/faults/clock_shift", OTHER_THREADS, method="PUT") as slow:
            eventually(lambda: is_blocked(service))
            slow.disconnect()
            assert ask(service.base_url, "/healthz", timeout_s=60).status == 200


@dataclass(frozen=True)
class Endpoint:
    """An endpoint for slow clients, the path that others GET meanwhile, and the statuses that slow clients may get."""

    url: str
    method: str
    path: str
    get_path: str
    statuses: frozenset[int]


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory: pytest.TempPathFactory, gateway: Gateway) -> Iterator[dict[str, Endpoint]]:
    """The servers with a thread for each connection and a deadline for a whole request."""
    with fault_page(tmp_path_factory.mktemp("page")) as page:
        # Werkzeug's server may close a connection instead of a response, and answers 400 for a truncated body.
        found = {"fault page": Endpoint(page, "PUT", "/api/faults/log_flood", "/", frozenset({400, 408, 0}))}
        for name, path in (("otlp_http", "/v1/traces"), ("loki", "/loki/api/v1/push"), ("pyroscope", "/ingest")):
            url = f"http://127.0.0.1:{gateway.ports[name]}"
            found[name] = Endpoint(url, "POST", path, "/nowhere", frozenset({408}))
        yield found


@pytest.mark.parametrize("name", ["fault page", "otlp_http", "loki", "pyroscope"])
def test_slow_bodies_do_not_block_other_servers(name: str, endpoints: dict[str, Endpoint], measured: Measured) -> None:
    """Others are answered meanwhile, and each slow client is disconnected."""
    endpoint = endpoints[name]
    expected = 404 if endpoint.get_path == "/nowhere" else 200
    with SlowBodies(urlsplit(endpoint.url).port or 80, endpoint.path, SLOW_CLIENTS, method=endpoint.method) as slow:
        seconds = durations(lambda: ask(endpoint.url, endpoint.get_path).status, 50, expected)
        statuses = slow.final_statuses()
        ended_s = time.monotonic() - slow.began
    measured(
        f"{name}: others answered within {seconds[25] * 1000:.0f} ms, the slowest {seconds[-1]:.2f} s; "
        f"{SLOW_CLIENTS} slow "
        f"clients ended after {ended_s:.1f} s with {dict(statuses)}"
    )
    assert set(statuses) <= endpoint.statuses
    assert ended_s < TIMEOUT_S
    assert seconds[-1] < 5


def test_a_body_that_arrives_in_pieces_is_accepted(server: Service) -> None:
    """The server waits for the rest of a body and then processes the request."""
    head = "POST /unicorn HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 21\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        for piece in (head, '{"name": ', '"in piec', 'es"'):
            connection.sendall(piece.encode())
            assert not select.select([connection], [], [], 0.3)[0]  # the server waits for the rest
        connection.sendall(b"}")
        assert connection.recv(65536).startswith(b"HTTP/1.1 201 ")


def test_a_stop_does_not_wait_for_slow_bodies(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory, measured: Measured
) -> None:
    """After SIGTERM, the server exits by itself within ten seconds, although slow clients occupy every thread."""
    with fleet(tmp_path_factory.mktemp("stop"), SILENT, database_settings(postgres)) as services:
        server = services.start("server")
        with SlowBodies(server.port, "/unicorn", SLOW_CLIENTS):
            eventually(lambda: is_blocked(server))
            began = time.monotonic()
            assert server.stop() == 0
            took_s = time.monotonic() - began
    measured(f"stopped {took_s:.1f} s after SIGTERM, with {SLOW_CLIENTS} slow clients")
    assert took_s < 10
