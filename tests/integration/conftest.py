"""Fixtures of the integration tests: real servers, the gateway, and the services as separate processes."""

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local.ports import LOOPBACK, free_port
from local.processes.process import Process
from local.servers.postgres import Postgres
from local.servers.rabbitmq import RabbitMQ
from tests.integration.running import DEADLINE_S, STOP_S, Gateway, Service, eventually
from tools.query import is_up

__all__ = ["DEADLINE_S", "STOP_S", "Gateway", "Service", "StartService", "eventually"]

StartService = Callable[..., Service]

LONGEST = ("test_surroundings", "test_scenarios", "test_demo_workshop", "test_frontend_page")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first: the last to start would run alone at the end, while other cores wait."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def servers_folder() -> Iterator[Path]:
    """A folder that the servers' users can access, unlike pytest's tmp_path."""
    folder = Path(tempfile.mkdtemp(prefix="mythical-beasts-tests-", dir="/var/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def folder(servers_folder: Path) -> Path:
    """A separate folder that does not exist yet, and that the servers' users can access."""
    parent = Path(tempfile.mkdtemp(dir=servers_folder))
    parent.chmod(0o711)
    return parent / "server"


@pytest.fixture(scope="session")
def postgres(servers_folder: Path) -> Iterator[Postgres]:
    """A running Postgres for the whole session; a test that stops it must restart it."""
    with Postgres(servers_folder / "postgres") as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq(servers_folder: Path) -> Iterator[RabbitMQ]:
    """A running RabbitMQ for the whole session; a test that stops it must restart it."""
    with RabbitMQ(servers_folder / "rabbitmq") as server:
        yield server


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A running gateway for the whole session; query it only for data that no other test can have sent."""
    folder = tmp_path_factory.mktemp("gateway")
    flags = ("--otlp-grpc", "--otlp-http", "--loki", "--pyroscope", "--faro", "--page")
    process = module_process("gateway", "local.gateway", folder, [part for flag in flags for part in (flag, "0")], {})
    process.launch()
    process.wait_ready(lambda: "ready {" in process.tail(), DEADLINE_S)
    ready = re.search(r"^ready (\{.*\})$", process.tail(), re.MULTILINE)
    assert ready, process.tail()
    yield Gateway(process, json.loads(ready[1]))
    assert process.stop(STOP_S) == 0, f"the gateway did not stop cleanly:\n{process.tail(30)}"


@pytest.fixture
def service(tmp_path: Path, postgres: Postgres, rabbitmq: RabbitMQ, gateway: Gateway) -> Iterator[StartService]:
    """Return `service(name, until="/readyz", **env)`, which starts services.<name> and waits until `until` answers.

    The service uses this session's Postgres, RabbitMQ and gateway unless `env` overrides them. At the end of the test
    each service gets SIGTERM and must exit with 0.
    """
    started: list[Service] = []
    settings = gateway.settings | _server_settings(postgres, rabbitmq)

    def start(name: str, until: str = "/readyz", **env: str) -> Service:
        environment = settings | {"HTTP_HOST": LOOPBACK, "HTTP_PORT": str(free_port())} | env
        base_url = f"http://{LOOPBACK}:{environment['HTTP_PORT']}"
        process = module_process(f"{name}-{len(started)}", f"services.{name}", tmp_path, [], environment)
        process.launch()
        started.append(Service(process, base_url))
        process.wait_ready(lambda: is_up(base_url + until), DEADLINE_S)
        return started[-1]

    yield start
    running = [each.process for each in started if not each.ended_by_test]
    for process in running:
        process.ask_to_stop()
    results = {process.name: (process.stop(STOP_S), process.tail(30)) for process in running}
    for name, (code, tail) in results.items():
        assert code == 0, f"{name} exited with {code} instead of 0:\n{tail}"


def _server_settings(postgres: Postgres, rabbitmq: RabbitMQ) -> dict[str, str]:
    return {
        "MYTHICAL_DATABASE_HOST": postgres.host,
        "MYTHICAL_DATABASE_HOST_PORT": str(postgres.port),
        "MYTHICAL_DATABASE_USER": postgres.user,
        "MYTHICAL_DATABASE_PASSWORD": postgres.password,
        "MYTHICAL_QUEUE_HOST": rabbitmq.host,
        "MYTHICAL_QUEUE_HOST_PORT": str(rabbitmq.port),
        "MYTHICAL_QUEUE_USER": rabbitmq.user,
        "MYTHICAL_QUEUE_PASSWORD": rabbitmq.password,
    }


def module_process(name: str, module: str, folder: Path, arguments: list[str], settings: dict[str, str]) -> Process:
    """Return a process, not yet started, that runs `python -m module` and logs to the folder."""
    return Process(
        name,
        [sys.executable, "-m", module, *arguments],
        log=folder / f"{name}.log",
        record=folder / f"{name}.pid",
        mark=module,
        environ=os.environ | settings,
    )
