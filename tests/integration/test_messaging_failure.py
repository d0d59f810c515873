"""The broker is killed under load: no confirmed message is lost, and all clients reconnect."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from functools import partial

import pytest

from common.messaging.errors import BrokerUnavailable, NotConfirmed
from common.messaging.publisher import Publisher
from local.servers.rabbitmq import RabbitMQ
from tests.integration.messaging_support import Recorder, Rig, stopped, until

CONFIRM_TIMEOUT_S = 8.0


class Load:
    """A thread that publishes about 500 messages a second with ids 0, 1, 2, … and records the result of each."""

    def __init__(self, publisher: Publisher) -> None:
        self.confirmed: set[str] = set()
        self.failed: Counter[str] = Counter()
        self.slowest_s = 0.0
        self.count = 0
        self._publisher = publisher
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """Stop publishing, and wait until each message is confirmed or has failed."""
        self._stop.set()
        self._thread.join()
        until(lambda: len(self.confirmed) + self.failed.total() == self.count)

    def _run(self) -> None:
        while not self._stop.wait(0.002):
            message_id, started = str(self.count), time.monotonic()
            self.count += 1
            future = self._publisher.publish("GET /unicorn", message_id=message_id)
            future.add_done_callback(partial(self._record, message_id, started))

    def _record(self, message_id: str, started: float, future: "Future[None]") -> None:
        self.slowest_s = max(self.slowest_s, time.monotonic() - started)
        error = future.exception()
        if error is None:
            self.confirmed.add(message_id)
        else:
            self.failed[type(error).__name__] += 1


@pytest.fixture
def rig(rabbitmq: RabbitMQ) -> Iterator[Rig]:
    """A separate queue on the session's broker, which is running again at the end."""
    created = Rig(rabbitmq)
    yield created
    if not rabbitmq.process.running:
        rabbitmq.start()
    created.clear()


def test_no_confirmed_message_is_lost_when_the_broker_is_killed_under_load(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """After SIGKILL and a restart, both sides recover by themselves, and each publish ends within its limit.

    Failed messages may have arrived (NotConfirmed), and some arrive twice: delivery is at least once.
    """
    publisher = rig.publisher(confirm_timeout_s=CONFIRM_TIMEOUT_S)
    recorder = Recorder(lambda _message: time.sleep(0.005))
    consumer = rig.consumer(recorder)
    with caplog.at_level(logging.INFO, "common.messaging"):
        load = Load(publisher)
        until(lambda: len(load.confirmed) > 300)
        rig.kill_broker()
        until(lambda: not publisher.ready and not consumer.ready)
        down_at = load.count
        rig.rabbitmq.start()
        up_at = load.count
        until(lambda: publisher.ready and consumer.ready)
        back_at = len(load.confirmed)
        until(lambda: len(load.confirmed) > back_at + 300)
        load.stop()
    until(lambda: load.confirmed <= set(recorder.ids))
    assert set(load.failed) <= {"BrokerUnavailable", "NotConfirmed", "TooManyInFlight"}
    assert load.slowest_s < CONFIRM_TIMEOUT_S + 15
    assert up_at - down_at > 10, "publish() waits for the broker"
    assert len(caplog.records) < 40, "the outage floods the log"
    assert all(record.exc_info is None for record in caplog.records)
    assert (publisher.close(10), consumer.close(10)) == (0, 0)


def test_messages_published_during_a_short_outage_arrive_afterwards(rig: Rig) -> None:
    """With a long timeout nothing fails: messages in flight are sent again over the next connection."""
    publisher, recorder = rig.publisher(confirm_timeout_s=300.0), Recorder()
    rig.consumer(recorder)
    rig.kill_broker()
    until(lambda: not publisher.ready)
    futures = [publisher.publish(str(n), message_id=str(n)) for n in range(200)]
    assert not any(future.done() for future in futures)
    rig.rabbitmq.start()
    assert [future.exception(300) for future in futures] == [None] * 200
    until(lambda: set(recorder.ids) == {str(n) for n in range(200)})


def test_no_failed_message_is_lost_when_the_broker_is_killed_during_retries(rig: Rig) -> None:
    """Each message fails once; the broker is killed during the moves; each is handled successfully in the end."""
    succeeded: set[str | None] = set()
    lock = threading.Lock()

    def fail_first(message: object) -> None:
        attempt, name = getattr(message, "attempt", 0), getattr(message, "message_id", None)
        if attempt == 1:
            raise ValueError("injected")
        with lock:
            succeeded.add(name)

    recorder = Recorder(fail_first)
    publisher = rig.publisher(confirm_timeout_s=300.0)
    consumer = rig.consumer(recorder, retry_delay_s=1.0)
    futures = [publisher.publish("x", message_id=str(n), delay_s=n / 300) for n in range(500)]
    until(lambda: len(recorder.messages) > 50)
    rig.kill_broker()
    until(lambda: not consumer.ready)
    rig.rabbitmq.start()
    assert [future.exception(300) for future in futures] == [None] * 500
    until(lambda: succeeded == {str(n) for n in range(500)})
    assert rig.dead() == []


def test_no_message_is_lost_in_a_clean_restart_of_the_broker(rig: Rig) -> None:
    """After SIGTERM, the broker closes its connections (CONNECTION_FORCED)."""
    publisher, recorder = rig.publisher(confirm_timeout_s=300.0), Recorder()
    consumer = rig.consumer(recorder)
    publisher.publish("before", message_id="before").result(60)
    rig.rabbitmq.stop()
    until(lambda: not publisher.ready and not consumer.ready)
    future = publisher.publish("meanwhile", message_id="meanwhile")
    rig.rabbitmq.start()
    assert future.exception(300) is None
    until(lambda: {"before", "meanwhile"} <= set(recorder.ids))


def test_a_suspended_broker_is_detected_by_heartbeats(rig: Rig) -> None:
    """After SIGSTOP the connection stays open without answers: messages time out, and after SIGCONT all resumes."""
    short_heartbeat = replace(rig.broker, heartbeat_s=1)  # pika checks every heartbeat + 5 s
    publisher = rig.publisher(broker=short_heartbeat, confirm_timeout_s=1.0)
    with stopped(rig.rabbitmq):
        assert isinstance(publisher.publish("unanswered").exception(60), NotConfirmed)
        until(lambda: not publisher.ready)
        assert isinstance(publisher.publish("held").exception(60), BrokerUnavailable)
    until(lambda: publisher.ready)
    until(lambda: publisher.publish("again").exception(60) is None)


def test_close_keeps_its_time_limit_while_the_broker_hangs(rig: Rig) -> None:
    """Neither client waits for the broker's close, and no socket stays open."""
    publisher = rig.publisher()
    consumer = rig.consumer(Recorder())
    with stopped(rig.rabbitmq):
        started = time.monotonic()
        future = publisher.publish("unanswered")
        assert (publisher.close(0.5), consumer.close(0.5)) == (1, 0)
        assert time.monotonic() - started < 15
        assert isinstance(future.exception(0), NotConfirmed)
