"""Each query of Locust's dashboard returns data, with the real Locust, Alloy and Mimir."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import pytest

from grafana.source.board import RUNNING
from grafana.source.reading import PanelQuery, panel_queries, with_values
from local.ports import LOOPBACK, free_port
from local.processes.process import Process
from local.servers.postgres import Postgres
from tests.integration.load_support import environment, needs_locust, run_load
from tests.stack import alloy_running, mimir_running
from tests.stack.backends import Backends, eventually
from tests.stack.dashboard_queries import metric, run_query
from tools.query import is_up

pytestmark = [needs_locust, alloy_running.needs_alloy, mimir_running.needs_mimir]

QUERIES = [it for it in panel_queries() if it.board == "locust" and it.source == "mimir"]
RUN = {"LOAD_RUN_ID": "board", "LOAD_USERS": "6", "LOAD_RATE": "6", "LOAD_TIME": "30", "LOAD_SHAPE": "steps"}


@pytest.fixture(scope="module")
def mimir() -> Iterator[Backends]:
    """A Mimir with the metrics of a load of half a minute on a server."""
    with ExitStack() as running:
        folder = Path(running.enter_context(TemporaryDirectory(prefix="mythical-board-", dir="/var/tmp")))
        folder.chmod(0o711)  # the database's user needs access to its folder below
        store = running.enter_context(mimir_running.running(folder))
        settings = alloy_running.environ(folder)
        endpoints = Path(settings["ALLOY_ENDPOINTS"])
        urls = json.loads(endpoints.read_text())
        urls["metrics"]["url"] = f"{store.base}/api/v1/push"
        endpoints.write_text(json.dumps(urls))
        alloy = running.enter_context(alloy_running.running(folder, settings))
        database = running.enter_context(Postgres(folder / "postgres"))
        server = running.enter_context(_server(folder, database.port, alloy.otlp))
        load = environment(folder, **RUN, LOAD_HOST=server, LOAD_COLLECTOR=alloy.otlp, OTEL_SDK_DISABLED="false")
        load_run = run_load(
            folder, **{name: value for name, value in load.items() if name.startswith(("LOAD_", "OTEL_"))}
        )
        assert load_run.code == 0, load_run.output
        yield Backends(ports={"MIMIR_PORT": urlsplit(store.base).port or 0})


def _server(folder: Path, database: int, otlp: str) -> "_Server":
    port = free_port()
    settings = {
        "HTTP_HOST": LOOPBACK,
        "HTTP_PORT": str(port),
        "MYTHICAL_DATABASE_HOST": LOOPBACK,
        "MYTHICAL_DATABASE_HOST_PORT": str(database),
        "OTEL_EXPORTER_OTLP_ENDPOINT": otlp,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    }
    return _Server(folder, port, settings)


class _Server:
    """A server process for the duration of a context."""

    def __init__(self, folder: Path, port: int, settings: dict[str, str]) -> None:
        self._url = f"http://{LOOPBACK}:{port}"
        self._process = Process(
            "server",
            [sys.executable, "-m", "services.server"],
            log=folder / "server.log",
            record=folder / "server.pid",
            mark="services.server",
            environ=os.environ | settings,
        )

    def __enter__(self) -> str:
        self._process.launch()
        self._process.wait_ready(lambda: is_up(f"{self._url}/readyz"), 60)
        return self._url

    def __exit__(self, *_: object) -> None:
        self._process.stop(10)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("it", QUERIES, ids=str)
def test_each_query_of_locusts_dashboard_returns_data(it: PanelQuery, mimir: Backends) -> None:
    """A name or a label that differs between Locust, Alloy and the panel would make it empty."""
    text = with_values(it.text, {"run": "board"})
    if '_type=""' in text:
        text = text.replace('_type=""', '_type!=""')  # only Locust sent requests to this server
    eventually(lambda: run_query(mimir, it, text), f"data for {text}")


@pytest.mark.timeout(300)
def test_a_run_is_annotated_from_its_first_user_to_its_last(mimir: Backends) -> None:
    """The annotation's query returns a series with run and shape, with values while there were users."""
    (series,) = eventually(lambda: metric(mimir, RUNNING, instant=False), "a run")
    assert series["metric"] == {"run_id": "board", "shape": "steps"}
    assert all(float(value) > 0 for _, value in series["values"])
