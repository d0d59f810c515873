"""Each scenario on real services: its symptoms come true while it runs, and clear when it is over."""

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

# What a symptom may take to come, and to go: a profile is pushed each ten seconds and has to be out of sight again. The
# rest is for a busy machine.
COMES_S, GOES_S = 120.0, 120.0
WINDOW_S = 4.0

# Even load, and no fault of the original's: what is seen then is the scenario's.
CALM = {
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
    """The services at work, by their switches, and what looks at their signals."""

    switches: FaultClient
    gateway: looks.Gateway
    addresses: dict[str, str]


@pytest.fixture(scope="module")
def suite(
    postgres: Postgres, rabbitmq: RabbitMQ, gateway: Gateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Suite]:
    """All four, with some names in the tables, and with persons who open the page if Locust is installed."""
    clear_queues(rabbitmq)
    folder = tmp_path_factory.mktemp("services")
    with (
        own_database(postgres) as name,
        fleet(
            folder,
            gateway.settings,
            database_settings(postgres, name),
            broker_settings(rabbitmq),
            CALM,
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
        addresses = {name: service.base_url for name, service in running.items()}
        with persons(folder, addresses):
            yield Suite(FaultClient(addresses), looks.Gateway(gateway.page, WINDOW_S), addresses)


@contextmanager
def persons(folder: Path, addresses: dict[str, str]) -> Iterator[None]:
    """Let four persons open the page until the end of the block."""
    settings = environment(
        folder,
        LOAD_HOST=addresses["server"],
        LOAD_FRONTEND=addresses["frontend"],
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
def test_the_symptoms_of_a_scenario_come_and_go(name: str, suite: Suite) -> None:
    """While it runs, each shows itself to the question that its file has; when it is over, none does any more."""
    of, said = scenario.read(name), list[str]()
    if not PYTHON.exists() and any(fault.service == "frontend" for fault in of.faults):
        pytest.skip("Locust is not installed; scripts/setup load installs it")
    for symptom in of.symptoms:
        look = symptom.gateway
        before = suite.gateway.value(look)  # what it is like before, for those that tell a growth
        if look.figure == "p75_times" and not before:
            eventually(lambda look=look: suite.gateway.value(look), COMES_S, "something to compare with")  # type: ignore[misc]
    runner = Runner(of, suite.switches, said.append)
    thread = threading.Thread(target=runner.run, args=(0.0, COMES_S))
    thread.start()
    try:
        for symptom in of.symptoms:
            eventually(lambda symptom=symptom: suite.gateway.shows(symptom.gateway), COMES_S, symptom.sentence)  # type: ignore[misc]
    finally:
        runner.stop()
        thread.join()
    assert [state for state in suite.switches.states() if state.seconds_left is not None] == []
    for symptom in of.symptoms:
        eventually(lambda symptom=symptom: not suite.gateway.shows(symptom.gateway), GOES_S, f"end: {symptom.sentence}")  # type: ignore[misc]
