"""The plan of the demo configures the services for the demo's servers."""

from pathlib import Path

import pytest

from common.core.env import Env, SettingsError
from common.messaging.topology import broker
from common.telemetry.settings import Signal, collector, telemetry_settings
from local import plan
from local.plan import RunContext
from local.ports import Ports
from local.servers.postgres import Postgres
from local.servers.rabbitmq import RabbitMQ
from services.server.config import load

# Variables that a shell may have for a database and a broker on another machine.
ELSEWHERE = {
    "MYTHICAL_DATABASE_PASSWORD_FILE": "/run/secrets/database",
    "MYTHICAL_DATABASE_NAME": "beasts",
    "MYTHICAL_QUEUE_PASSWORD_FILE": "/run/secrets/queue",
    "MYTHICAL_QUEUE_VHOST": "beasts",
}


class UnstartedPostgres(Postgres):
    """A Postgres that need not be installed."""

    def __init__(self, *_: Path, log: Path) -> None:  # noqa: ARG002 - the signature that the plan uses
        self.port = 20_001


class UnstartedRabbitMQ(RabbitMQ):
    """A RabbitMQ that need not be installed."""

    def __init__(self, *_: Path, log: Path) -> None:  # noqa: ARG002 - the signature that the plan uses
        self.port = 20_002


@pytest.fixture(autouse=True)
def unstarted_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plan without the servers' programs: `make check` does not install them."""
    monkeypatch.setattr(plan, "Postgres", UnstartedPostgres)
    monkeypatch.setattr(plan, "RabbitMQ", UnstartedRabbitMQ)


def test_settings_of_other_servers_do_not_reach_the_services(tmp_path: Path) -> None:
    """The services would reject both a password and a password file, or use a database that the demo does not have."""
    here = RunContext(ELSEWHERE, Ports.read(Env({})), tmp_path, tmp_path)
    env = Env({**ELSEWHERE, **plan._database(here)[1], **plan._broker(here)[1]})
    database, queue = load(env).database, broker(env, "test")
    assert (database.port, database.password, database.name) == (20_001, Postgres.password, Postgres.database)
    assert (queue.port, queue.password, queue.vhost) == (20_002, RabbitMQ.password, RabbitMQ.virtual_host)


def test_an_external_collector_replaces_the_gateway(tmp_path: Path) -> None:
    """DEMO_COLLECTOR disables the gateway and Aspire and sends logs over OTLP; the table shows address and protocol."""
    shell = {"DEMO_COLLECTOR": "https://collector.example/otlp/", "DEMO_LOAD": "false"}
    made = plan.make_plan(RunContext(shell, Ports.read(Env({})), tmp_path, tmp_path))
    assert (made.page, made.collector) == ("", "https://collector.example/otlp")
    entries = {entry.name: entry for entry in made.entries}
    assert not {"gateway", "aspire"} & set(entries)
    assert entries["collector"].note == "yours: OTLP, http/protobuf"
    assert entries["server"].needs == ("collector", "postgres")
    settings = plan._collector(RunContext(shell, Ports.read(Env({})), tmp_path, tmp_path), made.collector)[1]
    assert telemetry_settings(Env(settings), "mythical-server").logs.destination == "otlp"


@pytest.mark.parametrize(
    "shell", [{"DEMO_COLLECTOR": "collector:4318"}, {"OTEL_EXPORTER_OTLP_HEADERS": "no equals sign"}]
)
def test_an_invalid_target_stops_the_demo_before_anything_starts(shell: dict[str, str], tmp_path: Path) -> None:
    """The message is one line that names the variable."""
    (name,) = shell
    with pytest.raises(SettingsError, match=name):
        plan.make_plan(RunContext(shell, Ports.read(Env({})), tmp_path, tmp_path))


GRPC, HTTP = "grpc", "http/protobuf"


@pytest.mark.parametrize(
    ("shell", "signal", "port"),
    [
        ({}, "traces", "OTLP over gRPC"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": HTTP}, "traces", "OTLP over HTTP"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": HTTP}, "logs", "OTLP over HTTP"),
        ({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": HTTP}, "traces", "OTLP over HTTP"),
        ({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": HTTP}, "metrics", "OTLP over gRPC"),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": HTTP, "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "GRPC"},
            "metrics",
            "OTLP over gRPC",
        ),
    ],
)
@pytest.mark.parametrize("moved", [{}, {"DEMO_OTLP_GRPC_PORT": "24317", "DEMO_OTLP_HTTP_PORT": "24318"}])
def test_each_signal_goes_to_the_port_of_its_protocol(  # noqa: PLR0917 - one row of a table
    shell: dict[str, str],
    signal: Signal,
    port: str,
    moved: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf, traces and metrics must not go to the port for gRPC."""
    ports = Ports.read(Env(moved))
    settings = {**shell, **plan._settings(RunContext(shell, ports, tmp_path, tmp_path))}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    sent_to = collector(Env(settings)).endpoint(signal)
    sent_to = sent_to or settings[f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"]
    path = f"/v1/{signal}" if port == "OTLP over HTTP" else ""
    assert sent_to == f"http://127.0.0.1:{ports[port]}{path}"
