"""The recorder is killed with messages in its hands: every message is recorded by its successor."""

from collections.abc import Iterator

import pytest

from local.servers.rabbitmq import RabbitMQ
from tests.failure.conftest import Measured
from tests.failure.publishing import QUICK, count_recorded, duplicates, publishing, recorded
from tests.integration.conftest import Service, eventually
from tests.integration.service_support import (
    SILENT,
    Fleet,
    broker_settings,
    clear_queues,
    fleet,
    ready_messages,
)

pytestmark = pytest.mark.timeout(600)

RATE = 300.0
IN_HAND = 32  # a recorder's prefetch: twice its 16 workers


@pytest.fixture
def recorders(tmp_path_factory: pytest.TempPathFactory, rabbitmq: RabbitMQ) -> Iterator[Fleet]:
    """Recorders on empty queues."""
    clear_queues(rabbitmq)
    with fleet(tmp_path_factory.mktemp("recorders"), SILENT, broker_settings(rabbitmq), QUICK) as services:
        yield services
    clear_queues(rabbitmq)


def assert_flows(recorder: Service, count: int = 60) -> None:
    """Return when it has recorded that many: then it has messages in its hands, and others follow."""
    eventually(lambda: count_recorded(recorder.process.log) > count)


def test_a_recorder_killed_again_and_again_loses_nothing(
    recorders: Fleet, rabbitmq: RabbitMQ, kills: int, measured: Measured
) -> None:
    """By id: every confirmed message is recorded; those that were in its hands may be recorded twice, and no others."""
    killed = [recorders.start("recorder")]
    with publishing(rabbitmq, rate=RATE) as load:
        for _ in range(kills):
            assert_flows(killed[-1])
            killed[-1].kill()
            killed.append(recorders.start("recorder"))
        assert_flows(killed[-1])
    logs = [each.process.log for each in killed]
    eventually(lambda: load.confirmed <= set(recorded(logs)), 60)
    eventually(lambda: ready_messages(rabbitmq, "messages") == 0)
    found = recorded(logs)
    measured(
        f"{kills} kills, {load.published} published, {len(load.confirmed)} confirmed, "
        f"{len(load.confirmed - set(found))} of them lost, {duplicates(found)} recorded twice "
        f"(at most {IN_HAND} in hand at each kill)"
    )
    assert load.confirmed <= set(found)
    assert not load.failed
    assert duplicates(found) <= kills * IN_HAND
    assert not any(recorded([log]).total() - len(recorded([log])) for log in logs), "one process recorded one id twice"
    assert ready_messages(rabbitmq, "messages.dead") == 0


def test_of_two_recorders_the_other_takes_over(recorders: Fleet, rabbitmq: RabbitMQ, measured: Measured) -> None:
    """Work goes on while one is dead: what was in its hands goes to the other at once, without anyone's help."""
    one, other = recorders.launch("recorder"), recorders.launch("recorder")
    recorders.ready()
    with publishing(rabbitmq, rate=RATE) as load:
        assert_flows(one)
        assert_flows(other)
        one.kill()
        before = count_recorded(other.process.log)
        assert_flows(other, before + 200)
    logs = [one.process.log, other.process.log]
    eventually(lambda: load.confirmed <= set(recorded(logs)), 60)
    found = recorded(logs)
    measured(
        f"{len(load.confirmed)} confirmed, {len(load.confirmed - set(found))} lost, {duplicates(found)} recorded twice"
    )
    assert load.confirmed <= set(found)
    assert duplicates(found) <= IN_HAND
