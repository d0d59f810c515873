"""Hundreds of clients that announce a body and hold it back: others are served, and they themselves are ended."""

import itertools
import select
import socket
import time
from collections.abc import Iterator
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

SLOW_CLIENTS = 300
# The whole body has to be there within five seconds; the rest is for a machine that does other things as well.
ENDED_S = 15.0


@pytest.fixture(scope="module")
def server(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server with a database of its own, without planted faults."""
    folder = tmp_path_factory.mktemp("slow")
    with own_database(postgres) as name, fleet(folder, SILENT, database_settings(postgres, name)) as services:
        yield services.start("server", FAULT_NULL_NAME="0")


def test_slow_bodies_keep_nobody_waiting_and_are_ended(server: Service, measured: Measured) -> None:
    """Reads and writes of others go on as if nobody else was there; each slow client is told 408 and let go."""
    count = itertools.count()

    def add() -> int:
        return ask(server.base_url, "/unicorn", "POST", body=f'{{"name": "{next(count)}"}}', headers=JSON).status

    with SlowBodies(server.port, "/unicorn", SLOW_CLIENTS) as slow:
        reads = how_long(lambda: ask(server.base_url, "/unicorn?limit=1").status, 100, 200)
        writes = how_long(add, 100, 201)
        machines = how_long(lambda: ask(server.base_url, "/readyz").status, 10, 200)
        endings = slow.endings()
        ended = time.monotonic() - slow.began
    told = eventually(lambda: refused_for_slowness(server) >= SLOW_CLIENTS and refused_for_slowness(server), 20)
    lines = server.process.log.read_text(encoding="utf-8").count("their bodies came too slowly")
    measured(
        f"{SLOW_CLIENTS} clients with slow bodies; reads within {reads[50] * 1000:.0f} ms, the slowest {reads[-1]:.2f} "
        f"s, writes within {writes[50] * 1000:.0f} ms, the slowest {writes[-1]:.2f} s; all ended after {ended:.1f} s "
        f"with {dict(endings)}, {told} counted, {lines} lines in the log"
    )
    assert endings == {408: SLOW_CLIENTS}
    assert ended < ENDED_S
    assert max(reads[-1], writes[-1], machines[-1]) < 5
    assert 1 <= lines <= 5


@dataclass(frozen=True)
class Door:
    """A port of something else than the server: how slow clients come, and what others ask for with GET."""

    url: str
    method: str
    path: str
    asked: str
    answers: frozenset[int]
    cut_off_s: float = ENDED_S


def fault_door(service: Service) -> Door:
    """The switch of the faults, which is what takes bodies at a service that is not asked for anything."""
    return Door(service.base_url, "PUT", "/faults/clock_shift", "/metrics", frozenset({408}))


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory, gateway: Gateway) -> Iterator[dict[str, Door]]:
    """Whatever else takes bodies over HTTP; the services have no broker, which these pages do not need."""
    folder = tmp_path_factory.mktemp("doors")
    with fleet(folder, SILENT) as services, switch_page(folder) as page:
        # Werkzeug's server may close a connection in place of an answer, and answers 400 for a body that breaks off.
        found = {"page of switches": Door(page, "PUT", "/api/faults/log_flood", "/", frozenset({400, 408, 0}), 30.0)}
        for name in ("requester", "recorder"):
            found[name] = fault_door(services.launch(name, until="/healthz"))
        services.ready()
        for name, path in (("otlp_http", "/v1/traces"), ("loki", "/loki/api/v1/push"), ("pyroscope", "/ingest")):
            url = f"http://127.0.0.1:{gateway.ports[name]}"
            found[name] = Door(url, "POST", path, "/nowhere", frozenset({408, 411}), 30.0)
        yield found


@pytest.mark.parametrize("name", ["requester", "recorder", "page of switches", "otlp_http", "loki", "pyroscope"])
def test_slow_bodies_hold_no_other_port_either(name: str, doors: dict[str, Door], measured: Measured) -> None:
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
    assert ended < door.cut_off_s
    assert took[-1] < 5


def refused_for_slowness(server: Service) -> int:
    """How many requests the server counted as refused since their bodies came too slowly."""
    sample = 'mythical_requests_refused_total{reason="body_too_slow"} '
    lines = ask(server.base_url, "/metrics").text.splitlines()
    return sum(int(float(line.removeprefix(sample).split()[0])) for line in lines if line.startswith(sample))


def test_a_body_that_comes_in_pieces_is_taken(server: Service) -> None:
    """What is whole in time is as good as what came at once."""
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
    """SIGTERM with slow clients at hand: gone within ten seconds, and by itself."""
    with fleet(tmp_path_factory.mktemp("stop"), SILENT, database_settings(postgres)) as services:
        server = services.start("server")
        with SlowBodies(server.port, "/unicorn", SLOW_CLIENTS):
            began = time.monotonic()
            assert server.stop() == 0
            took = time.monotonic() - began
    measured(f"gone {took:.1f} s after SIGTERM, with {SLOW_CLIENTS} slow clients")
    assert took < 10
