"""The requester: its sequence and its pace, and what it does while the server or the broker is unavailable."""

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from common.core.endpoints import BORING, MYTHICAL
from local.ports import free_port
from local.servers.postgres import Postgres
from local.servers.rabbitmq import RabbitMQ
from tests.integration.conftest import Gateway, eventually
from tests.integration.recording_server import Asked, recording_server
from tests.integration.service_support import (
    SILENT,
    Fleet,
    black_hole,
    broker_settings,
    channel,
    clear_queues,
    database_settings,
    fleet,
    own,
    own_database,
    ready_messages,
)

AT_ONCE = {"REQUESTER_START": "0", "REQUESTER_LOOPS": "1", "FAULT_SLOW_PUBLISH": "0"}
Json = dict[str, Any]


EVEN = {"FAULT_REQUEST_WAVES": "0", "REQUESTER_SEED": "1"}

# Requesters that run side by side, each against a separate server: their settings, and how many requests are awaited.
RUNS: dict[str, tuple[dict[str, str], int]] = {
    "seed 7": ({"REQUESTER_SEED": "7", "REQUESTER_RATE": "10"}, 200),
    "seed 7 again": ({"REQUESTER_SEED": "7", "REQUESTER_RATE": "10"}, 200),
    "seed 8": ({"REQUESTER_SEED": "8", "REQUESTER_RATE": "10"}, 200),
    "boring": ({"ENDPOINT_TYPE": "BORING", "REQUESTER_RATE": "10"}, 100),
    "rate 0.25": ({**EVEN, "REQUESTER_RATE": "0.25"}, 8),
    "rate 100": ({**EVEN, "REQUESTER_RATE": "100"}, 8),
}


@dataclass(frozen=True)
class Runs:
    """What each requester asked for, how many connections it took, and the messages that all of them published."""

    asked: dict[str, list[Asked]]
    connections: dict[str, int]
    messages: list[str]

    def first(self, run: str) -> list[Asked]:
        """The requests of a run that were awaited: more came before it was stopped."""
        return self.asked[run][: RUNS[run][1]]


@pytest.fixture(scope="module")
def runs(rabbitmq: RabbitMQ, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Run the requesters until each has made its requests, and stop them."""
    clear_queues(rabbitmq)
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("requesters")
        started = stack.enter_context(fleet(folder, SILENT, broker_settings(rabbitmq), AT_ONCE))
        servers = {run: stack.enter_context(recording_server()) for run in RUNS}
        for run, (settings, _) in RUNS.items():
            started.launch("requester", **servers[run].settings, **settings)
        started.ready()
        for run, (_, count) in RUNS.items():
            eventually(lambda run=run, count=count: len(servers[run].asked) >= count)  # type: ignore[misc]
        started.close()
        with channel(rabbitmq) as on:
            taken = iter(lambda: on.basic_get("messages", auto_ack=True), (None, None, None))
            messages = [body.decode() for _, _, body in taken]
        return Runs(
            {run: server.asked for run, server in servers.items()},
            {run: server.connections for run, server in servers.items()},
            messages,
        )


def test_a_seed_decides_what_is_asked(runs: Runs) -> None:
    """The same seed produces the same methods, beasts and names in the same order; another seed produces others."""
    assert runs.first("seed 7") == runs.first("seed 7 again")
    assert runs.first("seed 7") != runs.first("seed 8")


def test_requests_are_those_of_the_interface(runs: Runs) -> None:
    """GET and POST in even shares and some DELETE, of all beasts; no unicorn is deleted."""
    asked = runs.first("seed 7")
    assert {each.method for each in asked} == {"GET", "POST", "DELETE"}
    assert {each.path for each in asked} == {f"/{beast}" for beast in MYTHICAL.names}
    assert 60 < sum(each.method == "GET" for each in asked) < 120
    assert {each.body for each in asked if each.method == "GET"} == {""}
    assert {each.body for each in asked if each.method == "DELETE"} == {'{"name": "found"}'}
    assert all(re.fullmatch(r'\{"name": "[a-z_]{5,50}"\}', each.body) for each in asked if each.method == "POST")
    assert "/unicorn" not in {each.path for each in asked if each.method == "DELETE"}


def test_one_message_is_published_for_each_request(runs: Runs) -> None:
    """None is lost when the requester is stopped, and none is sent twice."""

    def text(asked: Asked) -> str:
        said = {"GET": "", "POST": f" {asked.body}", "DELETE": " found"}[asked.method]
        return f"{asked.method} {asked.path}{said}"

    assert sorted(runs.messages) == sorted(text(each) for asked in runs.asked.values() for each in asked)


def test_the_rate_divides_the_pauses(runs: Runs) -> None:
    """The same requests come sooner at a higher rate."""
    slow, quick = runs.first("rate 0.25"), runs.first("rate 100")
    assert slow == quick
    # With this seed the pauses add up to 6.3 s and to 0.02 s; the rest is for a busy machine.
    assert (slow[-1].at - slow[0].at) - (quick[-1].at - quick[0].at) > 2


def test_the_boring_endpoints_are_requested_in_the_same_way(runs: Runs) -> None:
    """ENDPOINT_TYPE=BORING: the endpoints of a shop."""
    assert {each.path for each in runs.first("boring")} == {f"/{endpoint}" for endpoint in BORING.names}


def test_connections_are_kept(runs: Runs) -> None:
    """Many requests, one connection for each loop: the second request does not pay for a handshake."""
    assert set(runs.connections.values()) == {1}


@pytest.fixture
def telling(gateway: Gateway, rabbitmq: RabbitMQ, postgres: Postgres, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet that sends to the gateway, and can have a real server."""
    clear_queues(rabbitmq)
    with (
        own_database(postgres) as name,
        fleet(
            tmp_path,
            gateway.settings,
            database_settings(postgres, name),
            broker_settings(rabbitmq),
            AT_ONCE,
            {"PROFILE_COLLECTOR_HOST": "", "FAULT_NULL_NAME": "0"},
        ) as services,
    ):
        yield services


def newest(gateway: Gateway, fleet: Fleet, name: str) -> list[Json]:
    """The newest spans of that name."""
    return own(gateway.get("spans", service="mythical-requester", name=name, limit=200), fleet.namespace)


def failed(span: Json) -> bool:
    """Return whether the span is marked as failed."""
    return bool(span["status"]["code"] == "ERROR")


def test_a_server_that_is_away_is_seen_and_survived(telling: Fleet, gateway: Gateway, rabbitmq: RabbitMQ) -> None:
    """Requests go on and fail visibly, as spans, lines and a metric; with the server there they succeed again."""
    port = str(free_port())
    requester = telling.start("requester", MYTHICAL_SERVER_HOST_PORT=f"127.0.0.1:{port}", REQUESTER_RATE="2")
    away = eventually(lambda: [span for span in newest(gateway, telling, "requester") if failed(span)])
    assert away[0]["attributes"]["error.type"] == "NewConnectionError"
    assert "cannot be reached" in away[0]["status"]["message"]
    lines = eventually(lambda: own(gateway.get("logs", contains="cannot be reached"), telling.namespace))
    assert lines[0]["labels"]["level"] == "error"
    assert "status=FAILURE" in lines[0]["line"]

    def counted() -> list[Json]:
        metrics = own(gateway.get("metrics", name="http.client.request.duration"), telling.namespace)
        points = [point for metric in metrics for point in metric["points"]]
        return [point for point in points if point["attributes"].get("error.type") == "NewConnectionError"]

    assert eventually(counted)
    assert ready_messages(rabbitmq, "messages") == 0

    server = telling.start("server", HTTP_PORT=port)
    eventually(lambda: [span for span in newest(gateway, telling, "requester") if not failed(span)])
    server.kill()
    since = time.time_ns()
    later = eventually(
        lambda: [
            span for span in newest(gateway, telling, "requester") if failed(span) and span["start_unix_nano"] > since
        ]
    )
    assert later
    assert requester.process.running


def test_a_broker_that_is_away_does_not_stop_the_requests(gateway: Gateway, telling: Fleet) -> None:
    """Requests go on, and each message fails visibly."""
    with recording_server() as server:
        settings = {**server.settings, "MYTHICAL_QUEUE_HOST_PORT": str(free_port()), "REQUESTER_RATE": "20"}
        requester = telling.start("requester", until="/healthz", **settings)
        eventually(lambda: len(server.asked) >= 30)
        # A message is held for 10 s before it is given up, or until the end.
        assert requester.stop() == 0
    spans = eventually(lambda: newest(gateway, telling, "publish_to_queue"))
    assert all(failed(span) for span in spans)
    assert {span["attributes"]["error.type"] for span in spans} <= {"BrokerUnavailable", "PublisherClosed"}
    lines = own(gateway.get("logs", contains="message not published", limit=500), telling.namespace)
    assert lines
    assert all(line["labels"]["level"] == "error" for line in lines)
    assert any("broker unavailable" in line["line"] for line in own(gateway.get("logs", limit=500), telling.namespace))


def test_a_requester_whose_partners_all_hang_ends_in_time(rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    """A server, a broker and a collector that take connections and never answer: SIGTERM ends it, with exit code 0."""
    with black_hole() as silent, fleet(tmp_path, broker_settings(rabbitmq), AT_ONCE) as services:
        port = str(silent)
        requester = services.start(
            "requester",
            until="/healthz",
            MYTHICAL_SERVER_HOST_PORT=f"127.0.0.1:{port}",
            MYTHICAL_QUEUE_HOST_PORT=port,
            TRACING_COLLECTOR_HOST="127.0.0.1",
            TRACING_COLLECTOR_PORT=port,
            LOGS_TARGET=f"http://127.0.0.1:{port}/loki/api/v1/push",
        )
        assert requester.stop() == 0
