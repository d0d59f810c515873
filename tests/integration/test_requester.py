"""The requester: its sequence and its pace, and what it does while the server or the broker is away."""

import re
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from common.beasts import BORING, MYTHICAL
from local.ports import free_port
from local.postgres import Postgres
from local.rabbitmq import RabbitMQ
from tests.integration.conftest import Gateway, eventually
from tests.integration.recording_server import Asked, RecordingServer, recording_server
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
END_S = 5.0

Json = dict[str, Any]


@pytest.fixture
def started(rabbitmq: RabbitMQ, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet without a collector, and queues that are empty."""
    clear_queues(rabbitmq)
    with fleet(tmp_path, SILENT, broker_settings(rabbitmq), AT_ONCE) as services:
        yield services


@pytest.fixture
def server() -> Iterator[RecordingServer]:
    """A server that records what it is asked."""
    with recording_server() as running:
        yield running


def first(server: RecordingServer, count: int) -> list[Asked]:
    """The first so many requests, once they have come."""
    return eventually(lambda: list(islice(server.asked, count)) if len(server.asked) >= count else [])


def test_a_seed_decides_what_is_asked(started: Fleet) -> None:
    """The same seed gives the same methods, beasts and names in the same order; another seed gives others."""
    with recording_server() as one, recording_server() as two, recording_server() as three:
        for server, seed in ((one, "7"), (two, "7"), (three, "8")):
            started.launch("requester", **server.settings, REQUESTER_SEED=seed, REQUESTER_RATE="10")
        sequences = [first(server, 150) for server in (one, two, three)]
        for service in started.running:
            assert service.stop() == 0
    assert sequences[0] == sequences[1]
    assert sequences[0] != sequences[2]


def test_requests_are_those_of_the_interface(started: Fleet, server: RecordingServer, rabbitmq: RabbitMQ) -> None:
    """GET and POST in even shares and some DELETE, of all beasts; no unicorn is deleted; one message each."""
    requester = started.start("requester", **server.settings, REQUESTER_SEED="1", REQUESTER_RATE="20")
    asked = first(server, 400)
    assert requester.stop() == 0
    assert {each.method for each in asked} == {"GET", "POST", "DELETE"}
    assert {each.path for each in asked} == {f"/{beast}" for beast in MYTHICAL.names}
    assert 140 < sum(each.method == "GET" for each in asked) < 230
    assert {each.body for each in asked if each.method == "GET"} == {""}
    assert {each.body for each in asked if each.method == "DELETE"} == {'{"name": "found"}'}
    assert all(re.fullmatch(r'\{"name": "[a-z_]{5,50}"\}', each.body) for each in asked if each.method == "POST")
    assert "/unicorn" not in {each.path for each in asked if each.method == "DELETE"}

    with channel(rabbitmq) as on:
        texts = [
            body.decode() for _, _, body in iter(lambda: on.basic_get("messages", auto_ack=True), (None, None, None))
        ]
    assert sorted(texts) == sorted(text(each) for each in server.asked)


def text(asked: Asked) -> str:
    """The message about a request, as recorders have always read it."""
    said = {"GET": "", "POST": f" {asked.body}", "DELETE": " found"}[asked.method]
    return f"{asked.method} {asked.path}{said}"


def test_the_rate_divides_the_pauses(started: Fleet) -> None:
    """The same requests come sooner at a higher rate."""
    with recording_server() as slow, recording_server() as quick:
        for server, rate in ((slow, "2"), (quick, "20")):
            told = {"REQUESTER_SEED": "1", "REQUESTER_RATE": rate, "FAULT_REQUEST_WAVES": "0"}
            started.launch("requester", **server.settings, **told)
        asked = {server: first(server, 20) for server in (slow, quick)}
        for service in started.running:
            assert service.stop() == 0
    took = {server: each[-1].at - each[0].at for server, each in asked.items()}
    assert asked[slow] == asked[quick]
    assert took[slow] > 3 * took[quick]


def test_the_boring_catalogue_is_asked_for_in_the_same_way(started: Fleet, server: RecordingServer) -> None:
    """ENDPOINT_TYPE=BORING: the endpoints of a shop."""
    requester = started.start("requester", **server.settings, ENDPOINT_TYPE="BORING", REQUESTER_RATE="20")
    asked = first(server, 100)
    assert requester.stop() == 0
    assert {each.path for each in asked} == {f"/{endpoint}" for endpoint in BORING.names}


def test_connections_are_kept(started: Fleet, server: RecordingServer) -> None:
    """Many requests, one connection for each loop: the second request does not pay for a handshake."""
    connections: list[object] = []
    accept = server.get_request

    def counted() -> Any:
        accepted = accept()
        connections.append(accepted[1])
        return accepted

    server.get_request = counted  # type: ignore[method-assign]
    requester = started.start("requester", **server.settings, REQUESTER_RATE="20")
    first(server, 100)
    assert requester.stop() == 0
    assert len(connections) == 1


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
    """Tell whether the span is marked as failed."""
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


def test_a_broker_that_is_away_does_not_stop_the_requests(
    gateway: Gateway, server: RecordingServer, telling: Fleet
) -> None:
    """Requests go on, and each message fails visibly."""
    requester = telling.start(
        "requester",
        until="/healthz",
        **server.settings,
        MYTHICAL_QUEUE_HOST_PORT=str(free_port()),
        REQUESTER_RATE="20",
    )
    # The confirm is waited for 10 s; those that find the places in flight taken fail at once.
    first(server, 30)
    assert requester.stop() == 0
    spans = eventually(lambda: newest(gateway, telling, "publish_to_queue"))
    assert all(failed(span) for span in spans)
    assert {span["attributes"]["error.type"] for span in spans} <= {"BrokerAway", "PublisherClosed"}
    lines = own(gateway.get("logs", contains="message not published", limit=500), telling.namespace)
    assert lines
    assert all(line["labels"]["level"] == "error" for line in lines)
    assert any("broker away" in line["line"] for line in own(gateway.get("logs", limit=500), telling.namespace))


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
        before = time.monotonic()
        assert requester.stop() == 0
        assert time.monotonic() - before < END_S
