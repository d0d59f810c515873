"""The consumer on a real broker."""

import struct
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pika  # type: ignore[import-untyped]  # pika ships no py.typed
import pytest
from opentelemetry.trace import StatusCode

from common.messaging.errors import PoisonMessage, QueueMismatch
from common.messaging.handler import Message
from common.messaging.topology import dead_name, retry_name
from local.servers.rabbitmq import RabbitMQ
from tests.integration.messaging_support import Gate, Recorder, Rig, rabbitmqctl, until, wait_ready


class FarFuture(pika.BasicProperties):  # type: ignore[misc]  # pika ships no py.typed
    """Properties with one header, a timestamp in the year 292 billion, which pika cannot read."""

    def encode(self) -> list[bytes]:
        """Encode the flag "headers", then a table of one entry (AMQP 0-9-1, 4.2.6.1 and 4.2.5.5)."""
        entry = b"\x01aT" + struct.pack(">Q", 2**63 - 1)
        return [struct.pack(">HI", self.FLAG_HEADERS, len(entry)), entry]


@pytest.fixture
def rig(rabbitmq: RabbitMQ) -> Iterator[Rig]:
    """A separate queue on the session's broker."""
    created = Rig(rabbitmq)
    yield created
    created.clear()


def ready_messages(rig: Rig, name: str) -> int:
    """Return the broker's number of ready messages in a queue."""
    with rig.channel() as channel:
        count: int = channel.queue_declare(name, passive=True).method.message_count
    return count


def test_the_consumer_span_is_a_child_of_the_producers_in_the_same_trace(rig: Rig) -> None:
    """The trace is caller → publish_to_queue → process_message, across the broker."""
    publisher, recorder = rig.publisher(), Recorder()
    rig.consumer(recorder)
    with rig.tracer.start_as_current_span("caller"):
        publisher.publish("GET /unicorn", message_id="m1").result(60)
    until(lambda: rig.spans("process_message"))
    (producer,), (consumer,) = rig.spans("publish_to_queue"), rig.spans("process_message")
    assert producer.context is not None
    assert consumer.parent is not None
    assert consumer.parent.span_id == producer.context.span_id
    assert consumer.parent.trace_id == producer.context.trace_id
    (consumed,) = rig.points("messaging.client.consumed.messages")
    (duration,) = rig.points("messaging.process.duration")
    assert (consumed.value, duration.count) == (1, 1)


def test_a_message_is_acknowledged_only_after_processing(rig: Rig) -> None:
    """During processing the broker still has the message; when the consumer is gone, it redelivers it."""
    gate = Gate()
    first = Recorder(gate)
    publisher = rig.publisher()
    consumer = rig.consumer(first)
    publisher.publish("work", message_id="m1").result(60)
    until(lambda: first.messages)
    assert consumer.close(0.2) == 1
    second = Recorder()
    rig.consumer(second)
    until(lambda: second.messages)
    gate.open.set()
    assert (second.messages[0].message_id, second.messages[0].redelivered) == ("m1", True)


def test_close_finishes_started_messages_and_starts_no_more(rig: Rig) -> None:
    """Started messages are processed and acknowledged; the rest stays in the queue: nothing twice, nothing lost."""
    publisher, recorder = rig.publisher(), Recorder(lambda _message: time.sleep(0.2))  # five seconds in all
    for future in [publisher.publish(str(n), message_id=str(n)) for n in range(100)]:
        future.result(60)
    consumer = rig.consumer(recorder, concurrency=4)
    until(lambda: len(recorder.messages) >= 10)
    assert consumer.close(10) == 0
    handled = len(recorder.messages)
    assert handled < 100
    until(lambda: ready_messages(rig, rig.queue) == 100 - handled)
    rest = Recorder()
    rig.consumer(rest)
    until(lambda: len(rest.messages) == 100 - handled)
    assert recorder.ids + rest.ids == Counter({str(n): 1 for n in range(100)})


def test_messages_are_processed_concurrently_within_the_prefetch(rig: Rig) -> None:
    """Four are processed at a time; the rest stays at the broker for other consumers."""
    gate = Gate()
    busy = Recorder(gate)
    publisher = rig.publisher()
    for future in [publisher.publish(str(n)) for n in range(20)]:
        future.result(60)
    rig.consumer(busy, concurrency=4, prefetch=6)
    until(lambda: len(busy.messages) == 4)
    until(lambda: ready_messages(rig, rig.queue) == 14)
    assert len(busy.messages) == 4
    gate.open.set()
    until(lambda: len(busy.messages) == 20)


def test_a_failure_is_retried_after_the_delay_and_then_dead_lettered(rig: Rig) -> None:
    """After three attempts, half a second apart, it is in the dead-letter queue with count and reason."""
    times: list[float] = []

    def fail(_message: Message) -> None:
        times.append(time.monotonic())
        raise ValueError("injected")

    recorder = Recorder(fail)
    publisher = rig.publisher()
    consumer = rig.consumer(recorder, attempts=3, retry_delay_s=0.5)
    publisher.publish("bad", message_id="m1").result(60)
    until(lambda: consumer.depths.get(f"{rig.queue}.dead") == 1)
    assert [message.attempt for message in recorder.messages] == [1, 2, 3]
    assert all(later - earlier >= 0.5 for earlier, later in pairwise(times))
    ((properties, body),) = rig.dead()
    assert (body, properties.message_id) == (b"bad", "m1")
    assert (properties.headers["x-attempts"], properties.headers["x-reason"]) == (3, "ValueError: injected")
    spans = rig.spans("process_message")
    assert [span.status.status_code for span in spans] == [StatusCode.ERROR] * 3
    assert len({span.context.trace_id for span in spans if span.context}) == 1, "the attempts are not in one trace"
    until(lambda: rig.points("mythical_messages_dead_lettered"))
    (retried,), (dead,) = rig.points("mythical_messages_retried"), rig.points("mythical_messages_dead_lettered")
    assert (retried.value, dead.value) == (2, 1)
    assert ready_messages(rig, retry_name(rig.queue)) == 0


def test_a_successful_retry_leaves_no_message(rig: Rig) -> None:
    """The second attempt succeeds: nothing is dead-lettered, and the queues are empty."""

    def fail_once(message: Message) -> None:
        if message.attempt == 1:
            raise OSError("injected")

    recorder = Recorder(fail_once)
    consumer = rig.consumer(recorder)
    rig.publisher().publish("soon good").result(60)
    until(lambda: [message.attempt for message in recorder.messages] == [1, 2])
    assert consumer.close(10) == 0
    assert rig.dead() == []
    assert ready_messages(rig, rig.queue) == 0


def test_poison_messages_do_not_block_the_others(rig: Rig) -> None:
    """One in ten is poison, on a single thread: the others are handled, poison is dead-lettered at once."""

    def reject(message: Message) -> None:
        if message.text.startswith("poison"):
            raise PoisonMessage("not about a beast")

    recorder = Recorder(reject)
    consumer = rig.consumer(recorder, concurrency=1)
    publisher = rig.publisher()
    for n in range(100):
        publisher.publish(f"poison {n}" if n % 10 == 0 else f"good {n}")
    until(lambda: consumer.depths.get(f"{rig.queue}.dead") == 10)
    until(lambda: len(recorder.messages) == 100)
    assert {message.attempt for message in recorder.messages} == {1}
    assert {properties.headers["x-reason"] for properties, _ in rig.dead()} == {"PoisonMessage: not about a beast"}


@pytest.mark.parametrize(
    ("body", "properties", "reason"),
    [
        (b"\xff\xfe\x00", pika.BasicProperties(), "PoisonMessage: body is not UTF-8 at byte 0"),
        (b"x" * 70_000, pika.BasicProperties(), "PoisonMessage: body of 70000 bytes, the limit is 65536"),
        (b"text", FarFuture(), "PoisonMessage: headers that cannot be read"),
    ],
    ids=["not UTF-8", "too large", "unreadable headers"],
)
def test_an_unreadable_message_is_dead_lettered(
    rig: Rig, body: bytes, properties: pika.BasicProperties, reason: str
) -> None:
    """It never reaches the handler, and the next message does."""
    recorder = Recorder()
    consumer = rig.consumer(recorder)
    with rig.channel() as channel:
        channel.basic_publish("", rig.queue, body, properties)
        channel.basic_publish("", rig.queue, b"good")
    until(lambda: consumer.depths.get(f"{rig.queue}.dead") == 1)
    until(lambda: recorder.texts == ["good"])
    ((found, dead_body),) = rig.dead()
    assert (found.headers["x-reason"], dead_body) == (reason, body)


@pytest.mark.parametrize(
    "properties",
    [
        None,
        pika.BasicProperties(headers={"traceparent": 7, "x-attempts": "many", "nested": {"a": [1, None, b"\xff"]}}),
        pika.BasicProperties(user_id="guest", expiration="60000", priority=5, delivery_mode=1),
        pika.BasicProperties(headers={"CC": ["elsewhere"], "big": "x" * 100_000}),
        pika.BasicProperties(reply_to="a", type="b", app_id="c", correlation_id="d", content_encoding="utf-16"),
    ],
    ids=["no headers", "hostile headers", "broker options", "large headers", "foreign properties"],
)
def test_foreign_messages_are_handled_retried_and_dead_lettered(
    rig: Rig, properties: pika.BasicProperties | None
) -> None:
    """A message with any properties passes through all queues, and the channel stays open."""

    def fail(message: Message) -> None:
        if message.text == "bad":
            raise ValueError("injected")

    recorder = Recorder(fail)
    consumer = rig.consumer(recorder, attempts=2)
    with rig.channel() as channel:
        channel.basic_publish("", rig.queue, b"bad", properties)
        channel.basic_publish("", rig.queue, b"good", properties)
    until(lambda: consumer.depths.get(f"{rig.queue}.dead") == 1)
    until(lambda: Counter(recorder.texts) == Counter({"bad": 2, "good": 1}))
    assert consumer.ready


def test_a_message_that_kills_its_consumers_ends_in_the_dead_letter_queue(rig: Rig) -> None:
    """It is never acknowledged and is redelivered; its copies count this, and it is dead-lettered, not lost."""
    rig.publisher().publish("killer", message_id="m1").result(60)
    gate, seen = Gate(), []
    for _ in range(3):
        killed = Recorder(gate)
        consumer = rig.consumer(killed, max_redeliveries=2)
        until(lambda killed=killed: killed.messages)  # type: ignore[misc]
        seen += killed.messages
        assert consumer.close(0.1) == 1
    last = Recorder()
    consumer = rig.consumer(last, max_redeliveries=2)
    until(lambda: consumer.depths.get(dead_name(rig.queue)) == 1)
    gate.open.set()
    ((properties, body),) = rig.dead()
    assert (body, properties.message_id) == (b"killer", "m1")
    assert properties.headers["x-reason"] == "delivered again 2 times, never acknowledged"
    assert last.messages == []
    assert [(message.redelivered, message.attempt) for message in seen] == [(False, 1), (True, 1), (True, 1)]


def test_a_redelivered_message_is_handled_uncounted_while_copies_cannot_be_sent(rig: Rig) -> None:
    """The queue must drain while the broker's alarm blocks publishers; otherwise the alarm would never end."""
    rig.publisher().publish("drained", message_id="m1").result(60)
    gate = Gate()
    first = Recorder(gate)
    consumer = rig.consumer(first)
    until(lambda: first.messages)
    assert consumer.close(0.1) == 1
    recorder = Recorder()
    other = rig.consumer(recorder, wait=False, retry_delay_s=2.0)  # not the retry queue's delay: nothing can be moved
    until(lambda: recorder.texts == ["drained"])
    assert isinstance(other.last_error, QueueMismatch)
    gate.open.set()


def test_a_deleted_queue_is_declared_again_and_consumed(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """The broker cancels the consumer, which reconnects by itself."""
    caplog.set_level("WARNING", "common.messaging")
    recorder = Recorder()
    consumer = rig.consumer(recorder)
    with rig.channel() as channel:
        channel.queue_delete(rig.queue)
    # It is not ready for 0.1 to 0.2 s only, which a busy machine may miss; the line stays.
    until(lambda: "the queue was deleted or moved" in str([getattr(record, "fields", {}) for record in caplog.records]))
    until(lambda: consumer.ready)
    rig.publisher().publish("after").result(60)
    until(lambda: recorder.texts == ["after"])


def test_no_message_is_lost_when_the_retry_queue_is_deleted(rig: Rig) -> None:
    """The move fails, the queue is declared again, the move is repeated; only then is the original acknowledged."""

    def fail_once(message: Message) -> None:
        if message.attempt == 1:
            raise ValueError("injected")

    recorder = Recorder(fail_once)
    rig.consumer(recorder, depth_interval_s=60)  # reading the depth also declares the queue
    with rig.channel() as channel:
        channel.queue_delete(retry_name(rig.queue))
    rig.publisher().publish("bad").result(60)
    until(lambda: [message.attempt for message in recorder.messages] == [1, 2])


def test_a_retry_queue_with_another_delay_is_reported(rig: Rig) -> None:
    """The consumer isn't ready and the error has the fix; messages are still consumed."""
    first = rig.consumer(Recorder(), retry_delay_s=1.0)
    first.close(5)
    recorder = Recorder()
    second = rig.consumer(recorder, wait=False, retry_delay_s=2.0)
    with pytest.raises(QueueMismatch, match=rf"queue '{rig.queue}\.retry' .*x-message-ttl.*1000.*2000.*delete_queue"):
        wait_ready(second, 10)
    assert not second.ready
    rig.publisher().publish("flows").result(60)
    until(lambda: recorder.texts == ["flows"])


def test_messages_that_cannot_be_moved_are_one_line(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Each is tried again every second, and its queue may be declared differently for hours."""

    def fail(_: Message) -> None:
        raise ValueError("injected")

    rig.consumer(Recorder(), retry_delay_s=1.0).close(5)
    recorder = Recorder(fail)
    consumer = rig.consumer(recorder, wait=False, retry_delay_s=2.0)
    until(lambda: isinstance(consumer.last_error, QueueMismatch))
    for number in range(5):
        rig.publisher().publish(f"bad {number}").result(60)
    until(lambda: len(recorder.texts) == 5)
    until(lambda: "could not requeue" in caplog.text)
    consumer.close(1)
    assert caplog.text.count("could not requeue") == 1


def test_depths_are_reported_for_each_queue(rig: Rig) -> None:
    """The gauge has the ready messages of the three queues, with the queue name as the only label."""
    gate = Gate()
    recorder = Recorder(gate)
    consumer = rig.consumer(recorder, concurrency=1, prefetch=1)
    publisher = rig.publisher()
    for future in [publisher.publish(str(n)) for n in range(6)]:
        future.result(60)
    until(lambda: consumer.depths.get(rig.queue) == 5 and len(consumer.depths) == 3)
    found = {point.attributes["queue"]: point.value for point in rig.points("mythical_queue_messages")}
    assert found == {rig.queue: 5, f"{rig.queue}.retry": 0, f"{rig.queue}.dead": 0}
    gate.open.set()


def test_an_alarm_does_not_stop_the_consumer(rig: Rig) -> None:
    """Publishers are blocked, but the queue is drained, which ends the alarm. Retries wait."""

    def fail(message: Message) -> None:
        if message.text == "bad":
            raise ValueError("injected")

    recorder = Recorder(fail)
    publisher = rig.publisher()
    for future in [publisher.publish("bad"), *(publisher.publish(str(n)) for n in range(50))]:
        future.result(60)
    rabbitmqctl(rig.rabbitmq, "set_vm_memory_high_watermark", "0")
    try:
        consumer = rig.consumer(recorder, retry_delay_s=0.1, attempts=2)
        until(lambda: len(recorder.messages) == 51)
        until(lambda: consumer.depths.get(rig.queue) == 0)
        assert consumer.close(1.0) == 1, "only the failed message still waits for its move"
    finally:
        rabbitmqctl(rig.rabbitmq, "set_vm_memory_high_watermark", "0.4")
    successor = Recorder()
    rig.consumer(successor, retry_delay_s=0.1)
    until(lambda: "bad" in successor.texts)


def test_a_missing_permission_is_one_line(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """The broker accepts the connection and ends it when the permission is needed, each time: that is one outage."""
    user, allowed = f"{rig.queue}-reader", rig.broker
    rabbitmqctl(rig.rabbitmq, "add_user", user, "secret")
    rabbitmqctl(rig.rabbitmq, "set_permissions", user, ".*", ".*", "^$")
    caplog.set_level("INFO", "common.messaging")

    def lines(message: str) -> int:
        found = [getattr(record, "fields", {}).get("role") for record in caplog.records if record.msg == message]
        return found.count("consumer")

    try:
        rig.broker = replace(allowed, user=user, password="secret")
        consumer = rig.consumer(Recorder(), wait=False)
        log = rig.rabbitmq.process.log
        until(lambda: log.read_text(encoding="utf-8").count(f"user '{user}' authenticated") > 8)
        assert (lines("broker unavailable"), lines("broker connected")) == (1, 1)
        assert "access to queue" in str(consumer.last_error)
        rabbitmqctl(rig.rabbitmq, "set_permissions", user, ".*", ".*", ".*")
        until(lambda: lines("broker connected") == 2)
        assert (consumer.ready, lines("broker unavailable")) == (True, 1)
    finally:
        rig.broker = allowed
        rabbitmqctl(rig.rabbitmq, "delete_user", user)
