"""The suite as a source of telemetry: to a receiver that checks headers and TLS, and to targets that cannot work."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from local.ports import LOOPBACK, free_port
from local.servers.postgres import Postgres
from local.servers.rabbitmq import RabbitMQ
from tests.integration.conftest import eventually
from tests.integration.demo_run import DemoRun
from tests.integration.otlp_receiver import (
    REQUESTS,
    Arrived,
    Certificate,
    grpc_receiver,
    http_receiver,
    make_certificate,
)
from tests.integration.service_support import Fleet, ask, broker_settings, database_settings, fleet
from tools.suite import SERVICE_NAMES

TOKEN = "Basic MTIzNDU2OmdsY190b2tlbg=="
# As Grafana Cloud shows it: the blank is encoded.
HEADERS = {"OTEL_EXPORTER_OTLP_HEADERS": f"Authorization={TOKEN.replace(' ', '%20')}"}
WRONG = {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Basic%20wrong"}
SERVER = "mythical-server"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Give a certificate that only its own authority vouches for."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def started(postgres: Postgres, tmp_path: Path) -> Iterator[Fleet]:
    """Give a fleet without a gateway, whose services push soon and send log lines over OTLP."""
    soon = {"OTEL_BSP_SCHEDULE_DELAY": "200", "OTEL_METRIC_EXPORT_INTERVAL": "500", "OTEL_LOGS_EXPORTER": "otlp"}
    with fleet(tmp_path, database_settings(postgres), soon) as services:
        yield services


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_all_signals_arrive_with_headers_and_compression(
    started: Fleet, certificate: Certificate, protocol: str, *, tls: bool
) -> None:
    """Over both protocols, with a token, gzip, and a private authority; the protocol follows from the endpoint."""
    receive = http_receiver if protocol == "http" else grpc_receiver
    trust = {"OTEL_EXPORTER_OTLP_CERTIFICATE": str(certificate.authority)} if tls else {}
    with receive(TOKEN, certificate=certificate if tls else None) as (url, arrived):
        target = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}
        server = started.start("server", **target, **HEADERS, **trust)
        assert ask(server.base_url, "/unicorn").status == 200
        eventually(lambda: set(arrived.items) == {(SERVER, signal) for signal in REQUESTS}, what=server.process.tail())
        assert server.stop() == 0
    assert arrived.rejected == 0
    assert protocol == "grpc" or arrived.compressed == sum(arrived.pushes.values())
    assert "dropped" not in server.process.log.read_text(encoding="utf-8")


@contextmanager
def nothing() -> Iterator[tuple[str, None]]:
    """Yield the URL of a port that nothing listens on."""
    yield f"http://{LOOPBACK}:{free_port()}", None


@contextmanager
def unknown() -> Iterator[tuple[str, None]]:
    """Yield a URL whose name no resolver knows (RFC 6761)."""
    yield "http://collector.invalid:4318", None


Receiver = Callable[[], AbstractContextManager[tuple[str, Arrived | None]]]
HTTP, GRPC = {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
# What is wrong, the settings, the receiver, and the sentence about it.
CAUSES: dict[str, tuple[dict[str, str], Receiver, str]] = {
    "unknown, HTTP": (HTTP, unknown, "does not answer: Name or service not known"),
    "unknown, gRPC": (GRPC, unknown, "does not answer: Name or service not known"),
    "nothing there, HTTP": (HTTP, nothing, "does not answer: Connection refused"),
    "nothing there, gRPC": (GRPC, nothing, "does not answer: Connection refused"),
    "wrong token, HTTP": (
        HTTP | WRONG,
        lambda: http_receiver(TOKEN),
        "rejects the credentials (status 401); correct OTEL_EXPORTER_OTLP_HEADERS",
    ),
    "no permission, HTTP": (
        HTTP | WRONG,
        lambda: http_receiver(TOKEN, 403),
        "rejects the credentials (status 403); correct OTEL_EXPORTER_OTLP_HEADERS",
    ),
    "wrong token, gRPC": (GRPC | WRONG, lambda: grpc_receiver(TOKEN), "rejects the credentials (UNAUTHENTICATED)"),
    "wrong path, HTTP": (
        HTTP | WRONG,
        lambda: http_receiver(TOKEN, 404),
        "has no such endpoint (status 404); correct the path",
    ),
    "gRPC to HTTP": (GRPC, http_receiver, "is an HTTP port, but the service sends gRPC"),
    "HTTP to gRPC": (HTTP, grpc_receiver, "is a gRPC port, but the service sends HTTP"),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_the_cause_is_found(cause: str) -> None:
    """One sentence for each signal, with what to change."""
    settings, receiver, sentence = CAUSES[cause]
    with receiver() as (url, _):
        found = problems(settings | {"OTEL_EXPORTER_OTLP_ENDPOINT": url})
    assert set(found) == set(REQUESTS)
    for said in found.values():
        assert said.startswith(f"OTEL_EXPORTER_OTLP_ENDPOINT={url}")
        assert f" {sentence}" in said
        assert "\n" not in said


@pytest.mark.parametrize("receive", [http_receiver, grpc_receiver])
def test_a_certificate_that_is_not_trusted_is_named(
    certificate: Certificate, receive: Callable[..., AbstractContextManager[tuple[str, Arrived]]]
) -> None:
    """Neither without the authority nor without TLS; with both, nothing is wrong."""
    with receive(TOKEN, certificate=certificate) as (url, _):
        target = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, **HEADERS}
        for said in problems(target).values():
            assert "signed (unable to get local issuer certificate)" in said
        assert problems(target | {"OTEL_EXPORTER_OTLP_CERTIFICATE": str(certificate.authority)}) == {}
        plain = target | {"OTEL_EXPORTER_OTLP_ENDPOINT": url.replace("https:", "http:")}
        assert set(problems(plain)) == set(REQUESTS)
    with receive() as (url, _):
        for said in problems({"OTEL_EXPORTER_OTLP_ENDPOINT": url.replace("http:", "https:")}).values():
            assert "does not use TLS, but the URL says https" in said


def problems(settings: dict[str, str]) -> dict[str, str]:
    """Return what the program finds, in an environment with these settings."""
    done = subprocess.run(
        [sys.executable, "-m", "tools.probe"],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, list[str]] = json.loads(done.stdout)
    return {signal: "; ".join(diagnosis) for signal, diagnosis in found.items()}


@pytest.mark.parametrize(
    ("cause", "sentence"),
    [
        ("unknown, HTTP", "Failed to "),
        ("wrong token, HTTP", "status 401"),
        ("wrong token, gRPC", "UNAUTHENTICATED"),
        ("gRPC to HTTP", "Failed parsing HTTP/2"),
    ],
)
def test_a_target_that_cannot_work_is_a_line_on_standard_error_and_no_service_stops(
    started: Fleet, cause: str, sentence: str
) -> None:
    """The log lines themselves are not delivered, so one is written there; requests are answered."""
    settings, receiver, _ = CAUSES[cause]
    with receiver() as (url, _arrived):
        # The exporters retry what may be temporary until their timeout.
        server = started.start("server", **settings, OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_EXPORTER_OTLP_TIMEOUT="1")

        def reports() -> list[str]:
            assert ask(server.base_url, "/unicorn").status == 200
            lines = server.process.log.read_text(encoding="utf-8").splitlines()
            return [line for line in lines if " log lines dropped: " in line]

        assert sentence in eventually(reports, what="the loss is not reported")[0]
        assert server.stop() == 0


@pytest.mark.timeout(300)
def test_the_demo_sends_to_a_collector_elsewhere(servers_folder: Path, postgres: Postgres, rabbitmq: RabbitMQ) -> None:
    """DEMO_COLLECTOR: every signal of every service arrives there, and no gateway runs."""
    folder = servers_folder / "source"
    folder.mkdir(mode=0o711)
    run = DemoRun(
        folder,
        **HEADERS,
        DEMO_LOAD="false",
        **database_settings(postgres),
        **broker_settings(rabbitmq),
    )
    expected = {(service, signal) for service in SERVICE_NAMES for signal in REQUESTS}
    try:
        with http_receiver(TOKEN) as (url, arrived):
            run.environ["DEMO_COLLECTOR"] = url
            process = run.start()
            eventually(lambda: expected <= set(arrived.items) or process.poll() is not None, 150)
            assert expected <= set(arrived.items), run.printed()
            assert doctor(run) == dict.fromkeys(expected, "")
        assert doctor(run) == {
            (service, signal): f"OTEL_EXPORTER_OTLP_ENDPOINT={url}/v1/{signal} does not answer: Connection refused"
            for service, signal in expected
        }
        run.stop()
    finally:
        run.close()
    assert process.returncode == 0, run.printed()
    assert f"sending traces, metrics, and logs to {url}" in run.printed()
    assert "gateway" not in run.printed()
    assert arrived.rejected == 0
    assert run.remaining() == []


def doctor(run: DemoRun) -> dict[tuple[str, str], str]:
    """Return what the doctor says of each signal over OTLP: the fault, or an empty string."""
    report = subprocess.run(
        [sys.executable, "-m", "doctor", "--json", "local"],
        env=run.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    cells = [cell for cell in json.loads(report.stdout)["cells"] if cell["signal"] in REQUESTS]
    return {(cell["service"], cell["signal"]): cell["fault"]["said"] if cell["fault"] else "" for cell in cells}


def test_a_wrong_collector_of_the_demo_is_one_line(tmp_path: Path) -> None:
    """Before anything starts; the line names the variable."""
    run = DemoRun(tmp_path, DEMO_COLLECTOR="collector:4318")
    assert run.start().wait(60) == 2
    (line,) = run.printed().splitlines()
    assert line.startswith("demo: DEMO_COLLECTOR='collector:4318' is not a URL")
