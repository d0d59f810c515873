"""The suite as a source of telemetry, for a receiver that checks headers and TLS, and for invalid targets."""

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
# Grafana Cloud shows it like this, with the blank encoded.
HEADERS = {"OTEL_EXPORTER_OTLP_HEADERS": f"Authorization={TOKEN.replace(' ', '%20')}"}
WRONG = {"OTEL_EXPORTER_OTLP_HEADERS": "authorization=Basic%20wrong"}
SERVER = "mythical-server"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate that is signed by a private CA."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def started(postgres: Postgres, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet without a gateway, whose services export with short intervals and send log lines over OTLP."""
    settings = {"OTEL_BSP_SCHEDULE_DELAY": "200", "OTEL_METRIC_EXPORT_INTERVAL": "500", "OTEL_LOGS_EXPORTER": "otlp"}
    with fleet(tmp_path, database_settings(postgres), settings) as services:
        yield services


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_all_signals_arrive_with_headers_and_compression(
    started: Fleet, certificate: Certificate, protocol: str, *, tls: bool
) -> None:
    """They arrive over both protocols, with a token, gzip and a private CA; the endpoint determines the protocol."""
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
def closed_port() -> Iterator[tuple[str, None]]:
    """Yield the URL of a closed port."""
    yield f"http://{LOOPBACK}:{free_port()}", None


@contextmanager
def unknown_host() -> Iterator[tuple[str, None]]:
    """Yield a URL with a host name that never resolves (RFC 6761)."""
    yield "http://collector.invalid:4318", None


Receiver = Callable[[], AbstractContextManager[tuple[str, Arrived | None]]]
HTTP, GRPC = {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
# The problem, the settings, the receiver, and the reported sentence.
CAUSES: dict[str, tuple[dict[str, str], Receiver, str]] = {
    "unknown host, HTTP": (HTTP, unknown_host, "does not answer: Name or service not known"),
    "unknown host, gRPC": (GRPC, unknown_host, "does not answer: Name or service not known"),
    "closed port, HTTP": (HTTP, closed_port, "does not answer: Connection refused"),
    "closed port, gRPC": (GRPC, closed_port, "does not answer: Connection refused"),
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
    """There is one sentence for each signal, with a remedy."""
    settings, receiver, sentence = CAUSES[cause]
    with receiver() as (url, _):
        found = problems(settings | {"OTEL_EXPORTER_OTLP_ENDPOINT": url})
    assert set(found) == set(REQUESTS)
    for sentence_found in found.values():
        assert sentence_found.startswith(f"OTEL_EXPORTER_OTLP_ENDPOINT={url}")
        assert f" {sentence}" in sentence_found
        assert "\n" not in sentence_found


@pytest.mark.parametrize("receive", [http_receiver, grpc_receiver])
def test_an_untrusted_certificate_is_reported(
    certificate: Certificate, receive: Callable[..., AbstractContextManager[tuple[str, Arrived]]]
) -> None:
    """A missing CA and missing TLS are reported; with both, there is no problem."""
    with receive(TOKEN, certificate=certificate) as (url, _):
        target = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, **HEADERS}
        for problem in problems(target).values():
            assert "signed (unable to get local issuer certificate)" in problem
        assert problems(target | {"OTEL_EXPORTER_OTLP_CERTIFICATE": str(certificate.authority)}) == {}
        plain = target | {"OTEL_EXPORTER_OTLP_ENDPOINT": url.replace("https:", "http:")}
        assert set(problems(plain)) == set(REQUESTS)
    with receive() as (url, _):
        for problem in problems({"OTEL_EXPORTER_OTLP_ENDPOINT": url.replace("http:", "https:")}).values():
            assert "does not use TLS, but the URL says https" in problem


def problems(settings: dict[str, str]) -> dict[str, str]:
    """Return the problems that the program reports in an environment with these settings."""
    result = subprocess.run(
        [sys.executable, "-m", "tools.probe"],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, list[str]] = json.loads(result.stdout)
    return {signal: "; ".join(diagnosis) for signal, diagnosis in found.items()}


@pytest.mark.parametrize(
    ("cause", "sentence"),
    [
        ("unknown host, HTTP", "Failed to "),
        ("wrong token, HTTP", "status 401"),
        ("wrong token, gRPC", "UNAUTHENTICATED"),
        ("gRPC to HTTP", "Failed parsing HTTP/2"),
    ],
)
def test_an_invalid_target_is_reported_on_standard_error_and_the_service_runs(
    started: Fleet, cause: str, sentence: str
) -> None:
    """The log lines are not delivered, so one is written to standard error; requests are answered."""
    settings, receiver, _ = CAUSES[cause]
    with receiver() as (url, _arrived):
        # The exporters retry what may be temporary until their timeout.
        server = started.start("server", **settings, OTEL_EXPORTER_OTLP_ENDPOINT=url, OTEL_EXPORTER_OTLP_TIMEOUT="1")

        def reports() -> list[str]:
            assert ask(server.base_url, "/unicorn").status == 200
            lines = server.process.log.read_text(encoding="utf-8").splitlines()
            return [line for line in lines if " log lines dropped: " in line]

        assert sentence in eventually(reports, what="no report of lost lines")[0]
        assert server.stop() == 0


@pytest.mark.timeout(300)
def test_the_demo_sends_to_another_collector(servers_folder: Path, postgres: Postgres, rabbitmq: RabbitMQ) -> None:
    """With DEMO_COLLECTOR, every signal of every service arrives there, and no gateway runs."""
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
    """Return the doctor's result for each signal over OTLP: the fault, or an empty string."""
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
    """The line has the variable, and nothing was started."""
    run = DemoRun(tmp_path, DEMO_COLLECTOR="collector:4318")
    assert run.start().wait(60) == 2
    (line,) = run.printed().splitlines()
    assert line.startswith("demo: DEMO_COLLECTOR='collector:4318' is not a URL")
