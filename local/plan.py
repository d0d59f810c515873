"""What the demo runs: each unit with its settings, what it waits for, and the address to show."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from common.core.address import join_host_port
from common.core.env import Env
from common.telemetry.settings import MANUAL, collector, instrumentation
from common.telemetry.standard_variables import SIGNALS, check_standard_variables
from local.ports import LOOPBACK, Ports
from local.processes.process import Process
from local.processes.program import Program, Unit
from local.servers.aspire_dashboard import AspireDashboard
from local.servers.postgres import Postgres
from local.servers.rabbitmq import RabbitMQ
from local.state import CHECKOUT

# Locust has its own environment, which is optional.
LOAD_PYTHON = CHECKOUT / ".venv-load/bin/python"
USERS = "3"  # enough to see traces that start there, too few to slow anything down

# A page to open of each service, and what the service does.
SHOWN = {
    "requester": ("/metrics", "sends the requests"),
    "server": ("/unicorn", "answers them"),
    "recorder": ("/metrics", "counts the messages"),
    "frontend": ("/", "a page for people"),
}


@dataclass(frozen=True)
class Entry:
    """One line of the plan.

    `unit` is None for a server that the user runs. `needs` names what must be ready before it starts.
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
    """All entries in the order of the table, and the address of the gateway's page.

    With DEMO_COLLECTOR, the gateway does not run: `page` is empty, and `collector` says where the signals go.
    `rungs` maps each service that is not instrumented by our own code to its INSTRUMENTATION.
    """

    entries: tuple[Entry, ...]
    page: str
    collector: str = ""
    rungs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunContext:
    """What a plan depends on: the environment, the ports, and the folders of the data and of the logs."""

    environ: Mapping[str, str]
    ports: Ports
    state: Path
    logs: Path


def make_plan(here: RunContext) -> Plan:
    """Plan a run. Raises LocalError if a server is not installed, SettingsError for a value that is not allowed."""
    check_standard_variables(here.environ)
    rungs = {f"mythical-{name}": instrumentation(Env(here.environ), name) for name in SHOWN}
    database, database_settings = _database(here)
    broker, broker_settings = _broker(here)
    target = collector_url(here.environ)
    page = "" if target else f"http://{LOOPBACK}:{here.ports['gateway page']}"
    receivers, target_settings = _collector(here, target) if target else _receivers(here, page)
    # Postgres logs the trace of a slow statement, and of one that waits for a lock.
    comments = {"MYTHICAL_SQL_COMMENTS": here.environ.get("MYTHICAL_SQL_COMMENTS") or "true"}
    server = comments | {"MYTHICAL_SERVER_HOST_PORT": f"{LOOPBACK}:{here.ports['server']}"}
    settings = target_settings | database_settings | broker_settings | server
    first = receivers[0].name
    return Plan(
        (
            *receivers,
            _service(here, settings, "requester", first, broker.name),
            _service(here, settings, "server", first, database.name),
            _service(here, settings, "recorder", first, broker.name),
            _service(here, settings, "frontend", first, broker.name),
            _workshop(here),
            *_load(here),
            database,
            broker,
        ),
        page,
        target,
        {name: rung for name, rung in rungs.items() if rung not in MANUAL},
    )


def collector_url(environ: Mapping[str, str]) -> str:
    """Return DEMO_COLLECTOR, or an empty string. Raises SettingsError."""
    return Env(environ).url("DEMO_COLLECTOR", "").rstrip("/")


def _collector(here: RunContext, url: str) -> tuple[list[Entry], dict[str, str]]:
    """Return the entry of the user's collector, and the settings that make services send there."""
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": url,
        "OTEL_LOGS_EXPORTER": here.environ.get("OTEL_LOGS_EXPORTER") or "otlp",
    }
    protocol = collector(Env({**here.environ, **settings})).protocol
    return [Entry("collector", url, f"yours: OTLP, {protocol}")], settings


def _receivers(here: RunContext, page: str) -> tuple[list[Entry], dict[str, str]]:
    """Return the gateway, with the Aspire dashboard if it is wanted, and the settings that make services send there."""
    aspire = _aspire(here)
    gateway = Entry("gateway", page, "signals, map, flame graphs", _gateway(here, page, aspire))
    more = [Entry("aspire", aspire.url, "traces, metrics, logs", aspire, optional=True)] if aspire else []
    return [gateway, *more], _settings(here)


def _service(here: RunContext, settings: Mapping[str, str], name: str, *needs: str) -> Entry:
    path, note = SHOWN[name]
    environ = {
        **here.environ,
        **settings,
        "HTTP_HOST": LOOPBACK,
        "HTTP_PORT": str(here.ports[name]),
        # One in the shell, or one in OTEL_RESOURCE_ATTRIBUTES, would be the name of all.
        "OTEL_SERVICE_NAME": f"mythical-{name}",
    }
    base = f"http://{LOOPBACK}:{here.ports[name]}"
    program = Program(_python(here, name, f"services.{name}", environ), f"{base}/readyz")
    return Entry(name, base + path, note, program, needs, service=True)


def _workshop(here: RunContext) -> Entry:
    page = f"http://{LOOPBACK}:{here.ports['workshop']}"
    process = _python(here, "workshop", "workshop", here.environ, "page")
    return Entry("workshop", page, "page to inject faults", Program(process, page), optional=True)


def _load(here: RunContext) -> list[Entry]:
    wanted = Env(here.environ).flag("DEMO_LOAD", default=True)
    if not (wanted and (CHECKOUT / ".venv-load/.packages").exists()):
        return []
    page = f"http://{LOOPBACK}:{here.ports['Locust']}"
    url, gateway = collector_url(here.environ), here.ports["OTLP over HTTP"]
    environ = {
        "LOAD_USERS": USERS,
        **here.environ,
        "OTEL_SERVICE_NAME": "mythical-loadtest",
        "LOAD_HEADLESS": "false",
        "LOAD_FRONTEND": f"http://{LOOPBACK}:{here.ports['frontend']}",
        "LOAD_HOST": f"http://{LOOPBACK}:{here.ports['server']}",
        "LOAD_PORT": str(here.ports["Locust"]),
        **({"OTEL_EXPORTER_OTLP_ENDPOINT": url} if url else {"LOAD_COLLECTOR": f"http://{LOOPBACK}:{gateway}"}),
    }
    process = _python(here, "locust", "loadtest", environ, python=str(LOAD_PYTHON))
    return [Entry("locust", page, "load generator", Program(process, page), ("server",), optional=True, service=True)]


def _gateway(here: RunContext, page: str, aspire: AspireDashboard | None) -> Program:
    flags = {
        "--otlp-grpc": here.ports["OTLP over gRPC"],
        "--otlp-http": here.ports["OTLP over HTTP"],
        "--loki": here.ports["Loki push"],
        "--pyroscope": here.ports["Pyroscope push"],
        "--faro": here.ports["Faro"],
        "--faro-origins": ",".join(f"http://{host}:{here.ports['frontend']}" for host in (LOOPBACK, "localhost")),
        "--page": here.ports["gateway page"],
        **({"--forward-otlp": aspire.otlp_http, "--ui": aspire.url} if aspire else {}),
    }
    arguments = [str(part) for flag in flags.items() for part in flag]
    return Program(_python(here, "gateway", "local.gateway", here.environ, *arguments), f"{page}/api/summary")


def _aspire(here: RunContext) -> AspireDashboard | None:
    # It uses 250 MB of memory, so it can be switched off.
    if not AspireDashboard.is_installed() or not Env(here.environ).flag("DEMO_ASPIRE", default=True):
        return None
    return AspireDashboard(here.state / "aspire", here.ports["Aspire"], here.logs / "aspire.log")


def _database(here: RunContext) -> tuple[Entry, dict[str, str]]:
    env = Env(here.environ)
    if host := env.host("MYTHICAL_DATABASE_HOST", ""):
        return Entry("postgres", join_host_port(host, env.port("MYTHICAL_DATABASE_HOST_PORT", 5432)), "yours"), {}
    server = Postgres(here.state / "postgres", log=here.logs / "postgres.log")
    return Entry("postgres", f"{server.host}:{server.port}", f"{server.user} / {server.password}", server), {
        "MYTHICAL_DATABASE_HOST": server.host,
        "MYTHICAL_DATABASE_HOST_PORT": str(server.port),
        "MYTHICAL_DATABASE_USER": server.user,
        "MYTHICAL_DATABASE_PASSWORD": server.password,
        # A shell may set it for another server; if both are set, the services do not start.
        "MYTHICAL_DATABASE_PASSWORD_FILE": "",
        "MYTHICAL_DATABASE_NAME": server.database,
    }


def _broker(here: RunContext) -> tuple[Entry, dict[str, str]]:
    env = Env(here.environ)
    if host := env.host("MYTHICAL_QUEUE_HOST", ""):
        return Entry("rabbitmq", join_host_port(host, env.port("MYTHICAL_QUEUE_HOST_PORT", 5672)), "yours"), {}
    broker = RabbitMQ(here.state / "rabbitmq", log=here.logs / "rabbitmq.log")
    return Entry("rabbitmq", f"{broker.host}:{broker.port}", f"{broker.user} / {broker.password}", broker), {
        "MYTHICAL_QUEUE_HOST": broker.host,
        "MYTHICAL_QUEUE_HOST_PORT": str(broker.port),
        "MYTHICAL_QUEUE_USER": broker.user,
        "MYTHICAL_QUEUE_PASSWORD": broker.password,
        "MYTHICAL_QUEUE_PASSWORD_FILE": "",
        "MYTHICAL_QUEUE_VHOST": broker.virtual_host,
    }


def _settings(here: RunContext) -> dict[str, str]:
    ports = here.ports
    protocols = collector(Env(here.environ))
    otlp = {"grpc": ports["OTLP over gRPC"], "http/protobuf": ports["OTLP over HTTP"]}
    # A signal with a protocol of its own needs that one's port, unless the shell names an address for it.
    own = {
        f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT": f"http://{LOOPBACK}:{otlp[protocol]}{path}"
        for signal in SIGNALS
        if (protocol := here.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "").strip().lower())
        and protocol != protocols.protocol
        and not here.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
        and not here.environ.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
        for path in ["" if protocol == "grpc" else f"/v1/{signal.lower()}"]
    }
    return own | {
        "TRACING_COLLECTOR_HOST": LOOPBACK,
        "TRACING_COLLECTOR_PORT": str(otlp[protocols.protocol]),
        "LOGS_TARGET": f"http://{LOOPBACK}:{ports['Loki push']}/loki/api/v1/push",
        "PROFILE_COLLECTOR_HOST": LOOPBACK,
        "PROFILE_COLLECTOR_PORT": str(ports["Pyroscope push"]),
        "FARO_URL": f"http://{LOOPBACK}:{ports['Faro']}/collect",
    }


def _python(
    here: RunContext,
    name: str,
    module: str,
    environ: Mapping[str, str],
    *arguments: str,
    python: str = sys.executable,
) -> Process:
    return Process(
        name,
        [python, "-m", module, *arguments],
        log=here.logs / f"{name}.log",
        record=here.state / f"{name}.pid",
        mark=module,
        environ=environ,
    )
