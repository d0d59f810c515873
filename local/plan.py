"""What the demo runs: each unit, what it is told, what it waits for, and the address to show for it."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common.settings import Env
from local.addresses import Ports
from local.aspire_dashboard import AspireDashboard
from local.ports import LOOPBACK
from local.postgres import Postgres
from local.process import Process
from local.program import Program, Unit
from local.rabbitmq import RabbitMQ
from local.state import CHECKOUT

LOGS = CHECKOUT / "var/log"


@dataclass(frozen=True)
class Entry:
    """One line of the plan.

    `unit` is None for a server that somebody else runs. `needs` names what must be ready before it starts.
    An `optional` unit may fail without failing the demo; a `service` is stopped, and flushed, before the others.
    """

    name: str
    address: str
    note: str
    unit: Unit | None = None
    needs: tuple[str, ...] = ()
    optional: bool = False
    service: bool = False


@dataclass(frozen=True)
class Plan:
    """All entries in the order of the table, and the gateway's page."""

    entries: tuple[Entry, ...]
    page: str

    def entry(self, name: str) -> Entry:
        """Return the entry of that name."""
        return next(entry for entry in self.entries if entry.name == name)


def make_plan(environ: Mapping[str, str], ports: Ports, state: Path) -> Plan:
    """Plan a run with its data under `state`. Raises LocalError if a server is not installed."""
    page = f"http://{LOOPBACK}:{ports['gateway page']}"
    database, database_settings = _database(environ, state)
    broker, broker_settings = _broker(environ, state)
    aspire = AspireDashboard(state / "aspire", ports["Aspire"], LOGS / "aspire.log") if _wants_aspire(environ) else None
    settings = _telemetry_settings(ports) | database_settings | broker_settings
    settings["MYTHICAL_SERVER_HOST_PORT"] = f"{LOOPBACK}:{ports['server']}"

    def service(name: str, path: str, note: str, *needs: str) -> Entry:
        told = {**environ, **settings, "HTTP_HOST": LOOPBACK, "HTTP_PORT": str(ports[name])}
        base = f"http://{LOOPBACK}:{ports[name]}"
        process = _python(name, f"services.{name}", [], told, state)
        return Entry(name, base + path, note, Program(process, f"{base}/readyz"), needs, service=True)

    return Plan(
        (
            Entry("gateway", page, "signals, map, flame graphs", _gateway(environ, ports, state, aspire)),
            *([Entry("aspire", aspire.url, "traces, metrics, logs", aspire, optional=True)] if aspire else []),
            service("requester", "/metrics", "sends the requests", "gateway", broker.name),
            service("server", "/unicorn", "answers them", "gateway", database.name),
            service("recorder", "/metrics", "counts the messages", "gateway", broker.name),
            database,
            broker,
        ),
        page,
    )


def _wants_aspire(environ: Mapping[str, str]) -> bool:
    # It holds 250 MB of memory, so one may do without.
    return AspireDashboard.is_installed() and Env(environ).flag("DEMO_ASPIRE", default=True)


def _gateway(environ: Mapping[str, str], ports: Ports, state: Path, aspire: AspireDashboard | None) -> Program:
    flags = {
        "--otlp-grpc": ports["OTLP over gRPC"],
        "--otlp-http": ports["OTLP over HTTP"],
        "--loki": ports["Loki push"],
        "--pyroscope": ports["Pyroscope push"],
        "--page": ports["gateway page"],
        **({"--forward-otlp": aspire.otlp_http, "--ui": aspire.url} if aspire else {}),
    }
    arguments = [str(part) for flag in flags.items() for part in flag]
    process = _python("gateway", "local.gateway", arguments, environ, state)
    return Program(process, f"http://{LOOPBACK}:{ports['gateway page']}/api/summary")


def _database(environ: Mapping[str, str], state: Path) -> tuple[Entry, dict[str, str]]:
    if host := environ.get("MYTHICAL_DATABASE_HOST"):
        return Entry("postgres", f"{host}:{environ.get('MYTHICAL_DATABASE_HOST_PORT', '5432')}", "yours"), {}
    postgres = Postgres(state / "postgres", log=LOGS / "postgres.log")
    return Entry("postgres", f"{postgres.host}:{postgres.port}", "postgres / mythical", postgres), {
        "MYTHICAL_DATABASE_HOST": postgres.host,
        "MYTHICAL_DATABASE_HOST_PORT": str(postgres.port),
        "MYTHICAL_DATABASE_USER": postgres.user,
        "MYTHICAL_DATABASE_PASSWORD": postgres.password,
    }


def _broker(environ: Mapping[str, str], state: Path) -> tuple[Entry, dict[str, str]]:
    if host := environ.get("MYTHICAL_QUEUE_HOST"):
        return Entry("rabbitmq", f"{host}:{environ.get('MYTHICAL_QUEUE_HOST_PORT', '5672')}", "yours"), {}
    rabbitmq = RabbitMQ(state / "rabbitmq", log=LOGS / "rabbitmq.log")
    return Entry("rabbitmq", f"{rabbitmq.host}:{rabbitmq.port}", "guest / guest", rabbitmq), {
        "MYTHICAL_QUEUE_HOST": rabbitmq.host,
        "MYTHICAL_QUEUE_HOST_PORT": str(rabbitmq.port),
        "MYTHICAL_QUEUE_USER": rabbitmq.user,
        "MYTHICAL_QUEUE_PASSWORD": rabbitmq.password,
    }


def _telemetry_settings(ports: Ports) -> dict[str, str]:
    return {
        "TRACING_COLLECTOR_HOST": LOOPBACK,
        "TRACING_COLLECTOR_PORT": str(ports["OTLP over gRPC"]),
        "LOGS_TARGET": f"http://{LOOPBACK}:{ports['Loki push']}/loki/api/v1/push",
        "PROFILE_COLLECTOR_HOST": LOOPBACK,
        "PROFILE_COLLECTOR_PORT": str(ports["Pyroscope push"]),
    }


def _python(name: str, module: str, arguments: list[str], environ: Mapping[str, str], state: Path) -> Process:
    return Process(
        name,
        [sys.executable, "-m", module, *arguments],
        log=LOGS / f"{name}.log",
        record=state / f"{name}.pid",
        mark=module,
        environ=environ,
    )
