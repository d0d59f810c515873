"""Each scenario on real services: its symptoms come true while it runs, and clear when it is over."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from common.core.endpoints import MYTHICAL
from local.ports import LOOPBACK
from local.postgres_log import PostgresLog
from local.servers.postgres import Postgres
from local.servers.rabbitmq import RabbitMQ
from tests.integration.conftest import Gateway, eventually
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
    """The three services at work, by their switches, and what looks at their signals."""

    switches: FaultClient
    gateway: looks.Gateway
    addresses: dict[str, str]


@pytest.fixture(scope="module")
def suite(
    postgres: Postgres, rabbitmq: RabbitMQ, gateway: Gateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Suite]:
    """All three, with some names in the tables."""
    clear_queues(rabbitmq)
    with (
        own_database(postgres) as name,
        fleet(
            tmp_path_factory.mktemp("services"),
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
        services.ready()
        addresses = {"server": server.base_url, "recorder": recorder.base_url, "requester": requester.base_url}
        yield Suite(FaultClient(addresses), looks.Gateway(gateway.page, WINDOW_S), addresses)


@pytest.mark.parametrize("name", scenario.names())
def test_the_symptoms_of_a_scenario_come_and_go(name: str, suite: Suite) -> None:
    """While it runs, each shows itself to the question that its file has; when it is over, none does any more."""
    of, said = scenario.read(name), list[str]()
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
