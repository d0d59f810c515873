"""Credentials in URLs are used and never shown: not in output, at an endpoint, or in a received signal."""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.core.env import Env, SettingsError
from loadtest.settings import load as load_settings
from loadtest.settings import run_mode
from local.ports import LOOPBACK
from local.servers.postgres import Postgres
from local.state import CHECKOUT
from services.recorder import config as recorder
from services.requester import config as requester
from services.server import config as server
from tests.integration.conftest import Gateway, Service, eventually
from tests.integration.load_support import needs_locust, run_load, stand_in
from tests.integration.service_support import (
    Fleet,
    ask,
    database_settings,
    fleet,
    own,
    own_database,
)
from workshop.settings import load as workshop_settings

SECRET = f"s3cret{secrets.token_hex(8)}"
USER = f"user:{SECRET}@"
SIGNALS = ("spans", "logs", "metrics", "profiles")
PATHS = ("/metrics", "/readyz", "/healthz", "/faults")
UNREACHABLE = f"{USER}{LOOPBACK}:9"
PROXIES = {f"{name}_proxy": f"http://{UNREACHABLE}" for name in ("http", "https", "all", "grpc")}


@pytest.fixture(scope="module")
def running(
    postgres: Postgres, gateway: Gateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Fleet, dict[str, Service]]]:
    """Servers with credentials in each URL: two with a collector, and one whose collector is unreachable."""
    grpc, http, loki = (f"http://{USER}{LOOPBACK}:{gateway.ports[name]}" for name in ("otlp_grpc", "otlp_http", "loki"))
    each = {f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT": f"{http}/v1/{signal.lower()}" for signal in ("TRACES", "METRICS")}
    variants = {
        "fast": {
            "OTEL_EXPORTER_OTLP_ENDPOINT": grpc,
            "LOGS_TARGET": f"{loki}/loki/api/v1/push",
            "LOGS_TENANT": "team",
            "LOGS_TOKEN": SECRET,
        },
        "stock": {
            **each,
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": grpc,
            "OTEL_LOGS_EXPORTER": "otlp",
            "INSTRUMENTATION": "stock",
        },
        "unreachable": {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{UNREACHABLE}",
            "LOGS_TARGET": f"http://{UNREACHABLE}/loki/api/v1/push",
            "OTEL_LOGS_EXPORTER": "console",
            "PROFILE_COLLECTOR_PORT": "9",
        },
    }
    debugging = {
        "LOG_LEVEL": "DEBUG",
        "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED": "true",
        "PROFILE_COLLECTOR_USER": "user",
        "PROFILE_COLLECTOR_TOKEN": SECRET,
        "PROFILE_COLLECTOR_TENANT": "team",
        **PROXIES,
    }
    with own_database(postgres) as name, fleet(tmp_path_factory.mktemp("services"), gateway.settings) as started:
        shared = database_settings(postgres, name) | debugging
        services = {each: started.launch("server", **shared | more) for each, more in variants.items()}
        started.ready()
        yield started, services


def test_signals_arrive_without_credentials(running: tuple[Fleet, dict[str, Service]], gateway: Gateway) -> None:
    """Over gRPC, which has no credentials in URLs, over HTTP, from the stock layer, to Loki and Pyroscope."""
    started, services = running
    for service in services.values():
        assert ask(service.base_url, "/unicorn").status == 200

    def senders(signal: str) -> int:
        found = own(gateway.get(signal, limit=5000), started.namespace)
        if signal in ("spans", "metrics"):
            return len({str(each["resource"]["service.instance.id"]) for each in found})
        return len(found)

    for signal, at_least in (("spans", 2), ("metrics", 2), ("logs", 2), ("profiles", 1)):
        eventually(lambda signal=signal, at_least=at_least: senders(signal) >= at_least, 60, f"{signal} are missing")  # type: ignore[misc]
    for signal in SIGNALS:
        assert SECRET not in json.dumps(gateway.get(signal, limit=5000)), signal


def test_endpoints_and_output_show_no_credentials(running: tuple[Fleet, dict[str, Service]]) -> None:
    """Each library logs at its lowest level, and the collector of one service is unreachable."""
    _, services = running
    unreachable = services["unreachable"]
    eventually(
        lambda: "export" in unreachable.process.log.read_text(encoding="utf-8"), 60, "no failed export in the log"
    )
    for name, service in services.items():
        for path in PATHS:
            assert SECRET not in ask(service.base_url, path).text, (name, path)
        assert SECRET not in service.process.log.read_text(encoding="utf-8"), name


HOSTS = {
    "server": ("MYTHICAL_DATABASE_HOST", "TRACING_COLLECTOR_HOST", "PROFILE_COLLECTOR_HOST", "HTTP_HOST"),
    "recorder": ("MYTHICAL_QUEUE_HOST",),
    "requester": ("MYTHICAL_QUEUE_HOST", "MYTHICAL_SERVER_HOST_PORT"),
}
ENDPOINTS = ("", "TRACES_", "METRICS_", "LOGS_")
MALFORMED = (f"ftp://{USER}host", f"http://{USER}[host", f"http://{USER}host:port", f"{USER}host")
LOADS: dict[str, Callable[[Env], object]] = {
    "server": server.load,
    "recorder": recorder.load,
    "requester": requester.load,
    "load": load_settings,
    "load's run": run_mode,
    "workshop": workshop_settings,
}
WRONG = [
    *(
        (service, name, value)
        for service, names in HOSTS.items()
        for name in names
        for value in (f"{USER}host:4000", f"amqp://{USER}host")
    ),
    *(("recorder", "LOGS_TARGET", value) for value in MALFORMED),
    *(("recorder", f"OTEL_EXPORTER_OTLP_{signal}ENDPOINT", value) for signal in ENDPOINTS for value in MALFORMED),
    *(("server", name, f"{USER}host") for name in ("HTTP_PORT", "MYTHICAL_DATABASE_HOST_PORT", "LOG_LEVEL")),
    *(("load", name, value) for name in ("LOAD_HOST", "LOAD_COLLECTOR") for value in MALFORMED),
    *(("load's run", name, f"{USER}host") for name in ("LOAD_UI_HOST", "LOAD_MASTER", "LOAD_PORT")),
    *(("workshop", "WORKSHOP_SERVER", value) for value in MALFORMED),
    ("workshop", "WORKSHOP_HOST", f"{USER}host"),
]
PROGRAMS = [
    ("services.server", "LOGS_TARGET", f"http://{USER}[host"),
    ("local.demo", "MYTHICAL_DATABASE_HOST", f"{USER}host"),
    ("local.demo", "MYTHICAL_QUEUE_HOST", f"amqp://{USER}host"),
    ("local.demo", "TRACING_COLLECTOR_HOST", f"http://{USER}host"),
    ("workshop", "WORKSHOP_SERVER", f"http://{USER}[host"),
]


@pytest.mark.parametrize(("program", "name", "value"), WRONG, ids=lambda text: text.replace(SECRET, "s3cret"))
def test_the_error_about_a_wrong_url_shows_no_credentials(program: str, name: str, value: str) -> None:
    """It is one line with the variable and the rest of the value."""
    with pytest.raises(SettingsError) as error:
        LOADS[program](Env({name: value}))
    assert name in str(error.value)
    assert "host" in str(error.value)
    assert SECRET not in str(error.value)


def run(module: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the suite until it ends."""
    return subprocess.run(  # noqa: S603 - a constant program
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, **settings},
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(("module", "name", "value"), PROGRAMS, ids=lambda text: text.replace(SECRET, "s3cret"))
def test_a_program_exits_with_one_line_without_the_credentials(
    module: str, name: str, value: str, tmp_path: Path
) -> None:
    """The exit status is 2."""
    result = run(module, **{"MYTHICAL_STATE": str(tmp_path), name: value})
    (line,) = result.stdout.splitlines()
    assert result.returncode == 2
    assert name in line
    assert SECRET not in line


@pytest.mark.parametrize("arguments", [("fault", "list"), (), ("scenario", "run", "slow-query", "--for", "10s")])
def test_the_workshop_shows_no_credentials(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """It shows none of a service, a gateway and a backend that don't answer."""
    names = ("SERVER", "REQUESTER", "RECORDER", "GATEWAY", "MIMIR", "LOKI", "TEMPO", "PYROSCOPE")
    settings = {f"WORKSHOP_{name}": f"http://{UNREACHABLE}" for name in names}
    result = run("workshop", *arguments, MYTHICAL_STATE=str(tmp_path), **settings)
    assert SECRET not in result.stdout
    assert result.stdout


def test_the_doctor_shows_no_credentials(tmp_path: Path) -> None:
    """Each URL in the environment has credentials."""
    settings = dict.fromkeys([*(name for _, name, _ in WRONG), *PROXIES], f"http://{UNREACHABLE}")
    for arguments in ("start", "local"):
        result = run("doctor", arguments, MYTHICAL_STATE=str(tmp_path), **settings)
        assert "Traceback" not in result.stdout
        assert SECRET not in result.stdout


@needs_locust
def test_the_load_shows_no_credentials(gateway: Gateway, tmp_path: Path) -> None:
    """None is in its output, its results, or its spans, whose url.full is the URL."""
    posts: list[tuple[str, str]] = []
    with stand_in(posts=posts) as host:
        environment = {
            "LOAD_HOST": host.replace("//", f"//{USER}"),
            "LOAD_COLLECTOR": f"http://{USER}{LOOPBACK}:{gateway.ports['otlp_http']}",
            "OTEL_SDK_DISABLED": "false",
            "LOAD_TIME": "5",
            "LOAD_KINDS": "keeper=1",
            "LOAD_RUN_ID": tmp_path.name,
        }
        result = run_load(tmp_path, **environment)
    assert result.code == 0, result.output
    assert posts
    spans = eventually(lambda: [each for each in gateway.get("spans", limit=5000) if tmp_path.name in json.dumps(each)])
    assert SECRET not in json.dumps(spans)
    assert SECRET not in json.dumps(gateway.get("metrics", limit=5000))
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or SECRET not in file.read_text(encoding="utf-8"), file
    assert SECRET not in result.output
    assert SECRET not in run_load(tmp_path, LOAD_HOST=f"http://{UNREACHABLE}").output
