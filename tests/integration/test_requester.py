"""The requester: its sequence and rate, and its behaviour while the server or the broker is unavailable."""

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from common.core.endpoints import BORING, MYTHICAL
from common.web.client import RENEW_AFTER
from local.ports import free_port
from local.servers.postgres import Postgres
from local.servers.rabbitmq import RabbitMQ
from tests.integration.conftest import Gateway, eventually
from tests.integration.recording_server import Request, recording_server
from tests.integration.service_support import (
    SILENT,
    Fleet,
    broker_settings,
    channel,
    clear_queues,
    database_settings,
    fleet,
    own,
    own_database,
    ready_messages,
    silent_server,
)

AT_ONCE = {"REQUESTER_START": "0", "REQUESTER_LOOPS": "1", "FAULT_SLOW_PUBLISH": "0"}
Json = dict[str, Any]


CONSTANT_RATE = {"FAULT_REQUEST_WAVES": "0", "REQUESTER_SEED": "1"}

# Requesters that run concurrently, each with a separate server: settings, and number of expected requests.
RUNS: dict[str, tuple[dict[str, str], int]] = {
    "seed 7": ({"REQUESTER_SEED": "7", "REQUESTER_RATE": "10"}, 200),
    "seed 7 again": ({"REQUESTER_SEED": "7", "REQUESTER_RATE": "10"}, 200),
    "seed 8": ({"REQUESTER_SEED": "8", "REQUESTER_RATE": "10"}, 200),
    "boring": ({"ENDPOINT_TYPE": "BORING", "REQUESTER_RATE": "10"}, 100),
    "rate 0.25": ({**CONSTANT_RATE, "REQUESTER_RATE": "0.25"}, 8),
    "rate 100": ({**CONSTANT_RATE, "REQUESTER_RATE": "100"}, 8),
}


@dataclass(frozen=True)
class Runs:
    """The requests and connections of each requester, and the messages that all of them published."""

    requests: dict[str, list[Request]]
    connections: dict[str, int]
    messages: list[str]

    def first(self, run: str) -> list[Request]:
        """Return the expected requests of a run, without those made just before it was stopped."""
        return self.requests[run][: RUNS[run][1]]


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
            eventually(lambda run=run, count=count: len(servers[run].requests) >= count)  # type: ignore[misc]
        started.close()
        with channel(rabbitmq) as on:
            deliveries = iter(lambda: on.basic_get("messages", auto_ack=True), (None, None, None))
            messages = [body.decode() for _, _, body in deliveries]
        return Runs(
            {run: server.requests for run, server in servers.items()},
            {run: server.connections for run, server in servers.items()},
            messages,
        )


def test_the_seed_determines_the_requests(runs: Runs) -> None:
    """The same seed produces the same methods, beasts and names in the same order; another seed produces others."""
    assert runs.first("seed 7") == runs.first("seed 7 again")
    assert runs.first("seed 7") != runs.first("seed 8")


def test_requests_match_the_api(runs: Runs) -> None:
    """GET and POST in even shares and some DELETE, of all beasts; no unicorn is deleted."""
    requests = runs.first("seed 7")
    assert {each.method for each in requests} == {"GET", "POST", "DELETE"}
    assert {each.path for each in requests} == {f"/{beast}" for beast in MYTHICAL.names}
    assert 60 < sum(each.method == "GET" for each in requests) < 120
    assert {each.body for each in requests if each.method == "GET"} == {""}
    assert {each.body for each in requests if each.method == "DELETE"} == {'{"name": "found"}'}
    assert all(re.fullmatch(r'\{"name": "[a-z_]{5,50}"\}', each.body) for each in requests if each.method == "POST")
    assert "/unicorn" not in {each.path for each in requests if each.method == "DELETE"}


def test_one_message_is_published_for_each_request(runs: Runs) -> None:
    """None is lost when the requester is stopped, and none is sent twice."""

    def text(request: Request) -> str:
        rest = {"GET": "", "POST": f" {request.body}", "DELETE": " found"}[request.method]
        return f"{request.method} {request.path}{rest}"

    assert sorted(runs.messages) == sorted(text(each) for requests in runs.requests.values() for each in requests)


def test_the_rate_divides_the_pauses(runs: Runs) -> None:
    """The same requests come sooner at a higher rate."""
    slow, quick = runs.first("rate 0.25"), runs.first("rate 100")
    assert slow == quick
    # With this seed the pauses add up to 6.3 s and to 0.02 s; the rest is for a busy machine.
    assert (slow[-1].at - slow[0].at) - (quick[-1].at - quick[0].at) > 2


def test_the_boring_endpoints_are_requested(runs: Runs) -> None:
    """ENDPOINT_TYPE=BORING selects the endpoints of a shop."""
    assert {each.path for each in runs.first("boring")} == {f"/{endpoint}" for endpoint in BORING.names}


def test_connections_are_kept(runs: Runs) -> None:
    """A loop uses one connection for many requests, without a handshake per request."""
    for run, connections in runs.connections.items():
        assert connections <= 1 + len(runs.requests[run]) // RENEW_AFTER


@pytest.fixture
def exporting(gateway: Gateway, rabbitmq: RabbitMQ, postgres: Postgres, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet that exports to the gateway, and can have a real server."""
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
    """Return the newest spans with this name."""
    return own(gateway.get("spans", service="mythical-requester", name=name, limit=200), fleet.namespace)


def failed(span: Json) -> bool:
    """Return whether the span is marked as failed."""
    return bool(span["status"]["code"] == "ERROR")


def test_requests_fail_visibly_while_the_server_is_unavailable(
    exporting: Fleet, gateway: Gateway, rabbitmq: RabbitMQ
) -> None:
    """Failures are spans, log lines and a metric; with a server, requests succeed again."""
    port = str(free_port())
    requester = exporting.start("requester", MYTHICAL_SERVER_HOST_PORT=f"127.0.0.1:{port}", REQUESTER_RATE="2")
    failures = eventually(lambda: [span for span in newest(gateway, exporting, "requester") if failed(span)])
    assert failures[0]["attributes"]["error.type"] == "NewConnectionError"
    assert "cannot be reached" in failures[0]["status"]["message"]
    lines = eventually(lambda: own(gateway.get("logs", contains="cannot be reached"), exporting.namespace))
    assert lines[0]["labels"]["level"] == "error"
    assert "status=FAILURE" in lines[0]["line"]

    def counted() -> list[Json]:
        metrics = own(gateway.get("metrics", name="http.client.request.duration"), exporting.namespace)
        points = [point for metric in metrics for point in metric["points"]]
        return [point for point in points if point["attributes"].get("error.type") == "NewConnectionError"]

    assert eventually(counted)
    assert ready_messages(rabbitmq, "messages") == 0

    server = exporting.start("server", HTTP_PORT=port)
    eventually(lambda: [span for span in newest(gateway, exporting, "requester") if not failed(span)])
    server.kill()
    since = time.time_ns()
    later = eventually(
        lambda: [
            span for span in newest(gateway, exporting, "requester") if failed(span) and span["start_unix_nano"] > since
        ]
    )
    assert later
    assert requester.process.running


def test_requests_continue_while_the_broker_is_unavailable(gateway: Gateway, exporting: Fleet) -> None:
    """Each message fails visibly, as a span and a log line."""
    with recording_server() as server:
        settings = {**server.settings, "MYTHICAL_QUEUE_HOST_PORT": str(free_port()), "REQUESTER_RATE": "20"}
        requester = exporting.start("requester", until="/healthz", **settings)
        eventually(lambda: len(server.requests) >= 30)
        # A message is kept for 10 s before it fails, or until the end.
        assert requester.stop() == 0
    spans = eventually(lambda: newest(gateway, exporting, "publish_to_queue"))
    assert all(failed(span) for span in spans)
    assert {span["attributes"]["error.type"] for span in spans} <= {"BrokerUnavailable", "PublisherClosed"}
    lines = own(gateway.get("logs", contains="message not published", limit=500), exporting.namespace)
    assert lines
    assert all(line["labels"]["level"] == "error" for line in lines)
    assert any(
        "broker unavailable" in line["line"] for line in own(gateway.get("logs", limit=500), exporting.namespace)
    )


def test_a_requester_stops_in_time_when_its_dependencies_hang(rabbitmq: RabbitMQ, tmp_path: Path) -> None:
    """Server, broker and collector accept connections and never answer: after SIGTERM it exits with code 0."""
    with silent_server() as silent, fleet(tmp_path, broker_settings(rabbitmq), AT_ONCE) as services:
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
