"""The plan of the demo: what its services are told of servers of its own."""

from pathlib import Path

import pytest

from common.core.env import Env
from common.messaging.topology import broker
from local import plan
from local.plan import RunContext
from local.ports import Ports
from local.servers.postgres import Postgres
from local.servers.rabbitmq import RabbitMQ
from services.server.config import load

# What a shell may hold for a database and a broker elsewhere.
ELSEWHERE = {
    "MYTHICAL_DATABASE_PASSWORD_FILE": "/run/secrets/database",
    "MYTHICAL_DATABASE_NAME": "beasts",
    "MYTHICAL_QUEUE_PASSWORD_FILE": "/run/secrets/queue",
    "MYTHICAL_QUEUE_VHOST": "beasts",
}


class UnstartedPostgres(Postgres):
    """A Postgres that need not be installed."""

    def __init__(self, *_: Path, log: Path) -> None:  # noqa: ARG002 - as it is made by the plan
        self.port = 20_001


class UnstartedRabbitMQ(RabbitMQ):
    """A RabbitMQ that need not be installed."""

    def __init__(self, *_: Path, log: Path) -> None:  # noqa: ARG002 - as it is made by the plan
        self.port = 20_002


def test_what_is_meant_for_servers_elsewhere_does_not_reach_the_services(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They would refuse a password and a file of one, or ask for a database that the demo's own server lacks."""
    monkeypatch.setattr(plan, "Postgres", UnstartedPostgres)
    monkeypatch.setattr(plan, "RabbitMQ", UnstartedRabbitMQ)
    here = RunContext(ELSEWHERE, Ports.read(Env({})), tmp_path, tmp_path)
    told = Env({**ELSEWHERE, **plan._database(here)[1], **plan._broker(here)[1]})
    database, queue = load(told).database, broker(told, "test")
    assert (database.port, database.password, database.name) == (20_001, Postgres.password, Postgres.database)
    assert (queue.port, queue.password, queue.vhost) == (20_002, RabbitMQ.password, RabbitMQ.virtual_host)
