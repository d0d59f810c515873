"""Each scenario on real services: its symptoms appear while it runs, and disappear afterwards."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from common.core.endpoints import MYTHICAL
from local.ports import LOOPBACK, free_port
from local.postgres_log import PostgresLog
from local.processes.process import Process
from local.servers.postgres import Postgres
from local.servers.rabbitmq import RabbitMQ
from tests.integration.conftest import STOP_S, Gateway, eventually
from tests.integration.load_support import PYTHON, environment
from tests.integration.service_support import (
    broker_settings,
    clear_queues,
    database_settings,
    fleet,
    own_database,
    requests_to,
    run,
)
from workshop import gateway as looks
from workshop import scenario
from workshop.fault_client import FaultClient
from workshop.runner import Runner

# The longest time until a symptom appears and disappears: a profile is pushed every ten seconds, and must leave the
# window again. The rest is for a busy machine.
APPEARS_S, DISAPPEARS_S = 120.0, 120.0
WINDOW_S = 4.0

# A constant load without the default faults, so that every symptom is the scenario's.
CONSTANT_LOAD = {
    "REQUESTER_START": "0",
    "REQUESTER_RATE": "3",
    "FAULT_REQUEST_WAVES": "0",
    "FAULT_SLOW_PUBLISH": "0",
    "FAULT_SLOW_PROCESSING": "0",
    "FAULT_NULL_NAME": "0.05",
}
ROWS = "INSERT INTO {} (name) SELECT 'row ' || i FROM generate_series(1, 300) AS i"


@dataclass(frozen=True)
class Suite:
    """The running services with a client for their faults and a client for their signals."""

    fault_client: FaultClient
    gateway: looks.Gateway
    urls: dict[str, str]


@pytest.fixture(scope="module")
def suite(
    postgres: Postgres, rabbitmq: RabbitMQ, gateway: Gateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Suite]:
    """All four services, with names in the tables, and with simulated users of the page if Locust is installed."""
    clear_queues(rabbitmq)
    folder = tmp_path_factory.mktemp("services")
    with (
        own_database(postgres) as name,
        fleet(
            folder,
            gateway.settings,
            database_settings(postgres, name),
            broker_settings(rabbitmq),
            CONSTANT_LOAD,
        ) as services,
        PostgresLog(postgres.process.log, f"http://{LOOPBACK}:{gateway.ports['loki']}/loki/api/v1/push"),
    ):
        server = services.start("server")
        for beast in MYTHICAL.names:
            run(postgres, ROWS.format(beast), name)
        recorder, requester = services.launch("recorder"), services.launch("requester", **requests_to(server))
        faro = {"FARO_URL": f"http://{LOOPBACK}:{gateway.ports['faro']}/collect"}
        frontend = services.launch("frontend", **requests_to(server), **faro)
        services.ready()
        running = {"server": server, "recorder": recorder, "requester": requester, "frontend": frontend}
        urls = {name: service.base_url for name, service in running.items()}
        with page_users(folder, urls):
            yield Suite(FaultClient(urls), looks.Gateway(gateway.page, WINDOW_S), urls)


@contextmanager
def page_users(folder: Path, urls: dict[str, str]) -> Iterator[None]:
    """Simulate four users of the page until the end of the context."""
    settings = environment(
        folder,
        LOAD_HOST=urls["server"],
        LOAD_FRONTEND=urls["frontend"],
        LOAD_KINDS="person=1",
        LOAD_USERS="4",
        LOAD_MASTER_PORT=str(free_port()),
    )
    load = Process(
        "load",
        [str(PYTHON), "-m", "loadtest"],
        log=folder / "load.log",
        record=folder / "load.pid",
        mark="loadtest",
        environ=settings,
    )
    if PYTHON.exists():
        load.launch()
    yield
    if PYTHON.exists():
        load.stop(STOP_S)


@pytest.mark.parametrize("name", scenario.names())
def test_a_scenarios_symptoms_appear_and_disappear(name: str, suite: Suite) -> None:
    """While it runs, the query of each symptom returns a result; afterwards none does."""
    current, output = scenario.read(name), list[str]()
    if not PYTHON.exists() and any(fault.service == "frontend" for fault in current.faults):
        pytest.skip("Locust is not installed; scripts/setup load installs it")
    for symptom in current.symptoms:
        query = symptom.gateway
        before = suite.gateway.value(query)  # the value before, for symptoms that are an increase
        if query.figure == "p75_times" and not before:
            eventually(lambda query=query: suite.gateway.value(query), APPEARS_S, "something to compare with")  # type: ignore[misc]
    runner = Runner(current, suite.fault_client, output.append)
    thread = threading.Thread(target=runner.run, args=(0.0, APPEARS_S))
    thread.start()
    try:
        for symptom in current.symptoms:
            eventually(lambda symptom=symptom: suite.gateway.shows(symptom.gateway), APPEARS_S, symptom.sentence)  # type: ignore[misc]
    finally:
        runner.stop()
        thread.join()
    assert [state for state in suite.fault_client.states() if state.seconds_left is not None] == []
    for symptom in current.symptoms:
        eventually(
            lambda symptom=symptom: not suite.gateway.shows(symptom.gateway),  # type: ignore[misc]
            DISAPPEARS_S,
            f"end: {symptom.sentence}",
        )
