"""Clients that announce a body and hold it back: how many it takes to hold a service up, and what others see."""

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
from tests.failure.slow_bodies import SlowBodies, how_long
from tests.failure.switch_page import switch_page
from tests.integration.conftest import Gateway, Service, eventually
from tests.integration.service_support import JSON, SILENT, ask, database_settings, fleet, own_database

pytestmark = pytest.mark.timeout(200)

# The default of HTTP_THREADS, at the server also that of HTTP_QUEUE, and four spare ones.
SERVER_THREADS = 4 + 128 + 4
OTHER_THREADS = 4 + 4
UNANSWERED_S = 1.0
SLOW_CLIENTS = 300
CUT_OFF_S = 30.0


@pytest.fixture
def server(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server with a database of its own, without injected faults."""
    folder = tmp_path_factory.mktemp("slow")
    with own_database(postgres) as name, fleet(folder, SILENT, database_settings(postgres, name)) as services:
        yield services.start("server", FAULT_NULL_NAME="0")


def add(server: Service, name: object) -> int:
    """Add a unicorn; wait for the response as long as it takes."""
    body = f'{{"name": "{name}"}}'
    return ask(server.base_url, "/unicorn", "POST", body=body, headers=JSON, timeout_s=60).status


def names(server: Service) -> list[str]:
    """The names in the table of unicorns, from all pages."""
    found: list[str] = []
    path = "/unicorn?limit=1000"
    while path:
        answer = ask(server.base_url, path)
        found += [each["name"] for each in json.loads(answer.body)]
        link = answer.headers["Link"] or ""
        path = link[link.index("<") + 1 : link.index(">")] if 'rel="next"' in link else ""
    return found


def is_held_up(service: Service) -> bool:
    """Whether a request gets no response while others hold the threads."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=10) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        return not select.select([connection], [], [], UNANSWERED_S)[0]


def test_slow_bodies_hold_nobody_up_while_a_thread_is_left(server: Service, measured: Measured) -> None:
    """One fewer than there are threads: others read, write and use the admin endpoints; none is rejected."""
    count = itertools.count()
    with SlowBodies(server.port, "/unicorn", SERVER_THREADS - 1):
        reads = how_long(lambda: ask(server.base_url, "/unicorn?limit=1").status, 100, 200)
        writes = how_long(lambda: add(server, next(count)), 100, 201)
        how_long(lambda: ask(server.base_url, "/readyz").status, 10, 200)
    measured(
        f"{SERVER_THREADS - 1} clients with slow bodies; reads within {reads[50] * 1000:.0f} ms, the slowest "
        f"{reads[-1]:.2f} s, writes within {writes[50] * 1000:.0f} ms, the slowest {writes[-1]:.2f} s"
    )


def test_with_a_slow_body_for_every_thread_requests_wait_and_none_is_lost(server: Service, measured: Measured) -> None:
    """They are answered as soon as one slow client has left or sent the rest; each write is there once."""
    with SlowBodies(server.port, "/unicorn", SERVER_THREADS, kinds=("silent",)) as slow, ThreadPoolExecutor(20) as pool:
        eventually(lambda: is_held_up(server))
        waiting = [pool.submit(add, server, f"waiting-{number}") for number in range(20)]
        assert is_held_up(server)
        assert not any(each.done() for each in waiting)
        slow.leave()
        assert [each.result() for each in waiting] == [201] * 20
        endings = slow.finish()
    assert endings == {201: SERVER_THREADS - 1}
    wanted = {f"waiting-{number}" for number in range(20)} | {f"slow-{n:04}" for n in range(SERVER_THREADS - 1)}
    found = names(server)
    measured(
        f"{SERVER_THREADS} clients with slow bodies hold the server up; 20 writes waited and were served once one "
        f"client had left; {len(found)} names of {len(wanted)} are there"
    )
    assert sorted(found) == sorted(wanted)


@pytest.mark.parametrize("name", ["requester", "recorder"])
def test_the_other_services_have_fewer_threads(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Their admin endpoints are all that they serve: one slow client fewer than threads, and others are answered."""
    with fleet(tmp_path_factory.mktemp(name), SILENT) as services:
        service = services.start(name, until="/healthz")
        with SlowBodies(service.port, "/faults/clock_shift", OTHER_THREADS - 1, method="PUT"):
            how_long(lambda: ask(service.base_url, "/metrics").status, 50, 200)
        with SlowBodies(service.port, "/faults/clock_shift", OTHER_THREADS, method="PUT") as slow:
            eventually(lambda: is_held_up(service))
            slow.leave()
            assert ask(service.base_url, "/healthz", timeout_s=60).status == 200


@dataclass(frozen=True)
class Door:
    """A port of a server of ours: how slow clients come, and what others ask for with GET."""

    url: str
    method: str
    path: str
    asked: str
    answers: frozenset[int]


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory, gateway: Gateway) -> Iterator[dict[str, Door]]:
    """The servers with a deadline for a whole request, which have a thread for each connection."""
    with switch_page(tmp_path_factory.mktemp("doors")) as page:
        # Werkzeug's server may close a connection in place of an answer, and answers 400 for a body that breaks off.
        found = {"page of switches": Door(page, "PUT", "/api/faults/log_flood", "/", frozenset({400, 408, 0}))}
        for name, path in (("otlp_http", "/v1/traces"), ("loki", "/loki/api/v1/push"), ("pyroscope", "/ingest")):
            url = f"http://127.0.0.1:{gateway.ports[name]}"
            found[name] = Door(url, "POST", path, "/nowhere", frozenset({408}))
        yield found


@pytest.mark.parametrize("name", ["page of switches", "otlp_http", "loki", "pyroscope"])
def test_slow_bodies_hold_no_other_port_up(name: str, doors: dict[str, Door], measured: Measured) -> None:
    """Others are answered meanwhile, and each slow client is cut off."""
    door = doors[name]
    wanted = 404 if door.asked == "/nowhere" else 200
    with SlowBodies(urlsplit(door.url).port or 80, door.path, SLOW_CLIENTS, method=door.method) as slow:
        took = how_long(lambda: ask(door.url, door.asked).status, 50, wanted)
        endings = slow.endings()
        ended = time.monotonic() - slow.began
    measured(
        f"{name}: others answered within {took[25] * 1000:.0f} ms, the slowest {took[-1]:.2f} s; {SLOW_CLIENTS} slow "
        f"clients ended after {ended:.1f} s with {dict(endings)}"
    )
    assert set(endings) <= door.answers
    assert ended < CUT_OFF_S
    assert took[-1] < 5


def test_a_body_that_comes_in_pieces_is_accepted(server: Service) -> None:
    """What is complete in the end is as good as what came at once."""
    head = "POST /unicorn HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 21\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        for piece in (head, '{"name": ', '"in piec', 'es"'):
            connection.sendall(piece.encode())
            assert not select.select([connection], [], [], 0.3)[0]  # it waits for the rest, and says nothing
        connection.sendall(b"}")
        assert connection.recv(65536).startswith(b"HTTP/1.1 201 ")


def test_a_stop_does_not_wait_for_slow_bodies(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory, measured: Measured
) -> None:
    """SIGTERM while slow clients hold every thread: gone within ten seconds, and by itself."""
    with fleet(tmp_path_factory.mktemp("stop"), SILENT, database_settings(postgres)) as services:
        server = services.start("server")
        with SlowBodies(server.port, "/unicorn", SLOW_CLIENTS):
            eventually(lambda: is_held_up(server))
            began = time.monotonic()
            assert server.stop() == 0
            took = time.monotonic() - began
    measured(f"gone {took:.1f} s after SIGTERM, with {SLOW_CLIENTS} slow clients")
    assert took < 10
