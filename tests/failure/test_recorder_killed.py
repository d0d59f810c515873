"""The recorder is killed with unacknowledged messages: the next recorder records every message."""

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
PREFETCH = 32  # of a recorder: twice its 16 workers


@pytest.fixture
def recorders(tmp_path_factory: pytest.TempPathFactory, rabbitmq: RabbitMQ) -> Iterator[Fleet]:
    """Recorders on empty queues."""
    clear_queues(rabbitmq)
    with fleet(tmp_path_factory.mktemp("recorders"), SILENT, broker_settings(rabbitmq), QUICK) as services:
        yield services
    clear_queues(rabbitmq)


def wait_recorded(recorder: Service, count: int = 60) -> None:
    """Wait until it has recorded more than `count` messages: then it has unacknowledged ones, and others follow."""
    eventually(lambda: count_recorded(recorder.process.log) > count)


def test_no_message_is_lost_when_the_recorder_is_killed_repeatedly(
    recorders: Fleet, rabbitmq: RabbitMQ, kills: int, measured: Measured
) -> None:
    """Every confirmed id is recorded; only unacknowledged messages may be recorded twice."""
    started = [recorders.start("recorder")]
    with publishing(rabbitmq, rate=RATE) as load:
        for _ in range(kills):
            wait_recorded(started[-1])
            started[-1].kill()
            started.append(recorders.start("recorder"))
        wait_recorded(started[-1])
    logs = [each.process.log for each in started]
    eventually(lambda: load.confirmed <= set(recorded(logs)), 60)
    eventually(lambda: ready_messages(rabbitmq, "messages") == 0)
    found = recorded(logs)
    measured(
        f"{kills} kills, {load.published} published, {len(load.confirmed)} confirmed, "
        f"{len(load.confirmed - set(found))} of them lost, {duplicates(found)} recorded twice "
        f"(at most {PREFETCH} unacknowledged at each kill)"
    )
    assert load.confirmed <= set(found)
    assert not load.failed
    assert duplicates(found) <= kills * PREFETCH
    assert not any(recorded([log]).total() - len(recorded([log])) for log in logs), "one process recorded one id twice"
    assert ready_messages(rabbitmq, "messages.dead") == 0


def test_the_other_recorder_takes_over_when_one_is_killed(
    recorders: Fleet, rabbitmq: RabbitMQ, measured: Measured
) -> None:
    """Messages are processed while one is dead, and its unacknowledged messages go to the other at once."""
    one, other = recorders.launch("recorder"), recorders.launch("recorder")
    recorders.ready()
    with publishing(rabbitmq, rate=RATE) as load:
        wait_recorded(one)
        wait_recorded(other)
        one.kill()
        before = count_recorded(other.process.log)
        wait_recorded(other, before + 200)
    logs = [one.process.log, other.process.log]
    eventually(lambda: load.confirmed <= set(recorded(logs)), 60)
    found = recorded(logs)
    measured(
        f"{len(load.confirmed)} confirmed, {len(load.confirmed - set(found))} lost, {duplicates(found)} recorded twice"
    )
    assert load.confirmed <= set(found)
    assert duplicates(found) <= PREFETCH
