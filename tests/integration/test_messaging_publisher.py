"""The publisher on a real broker."""

import logging
import socket
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from opentelemetry import baggage, context
from opentelemetry.trace import SpanKind, StatusCode

from common.messaging.errors import (
    BrokerBlocked,
    BrokerUnavailable,
    NotConfirmed,
    PublisherClosed,
    QueueMismatch,
    TooManyInFlight,
    Unroutable,
)
from common.messaging.topology import Broker
from local.servers.rabbitmq import RabbitMQ
from tests.integration.messaging_support import Recorder, Rig, rabbitmqctl, stopped, until, wait_ready


@pytest.fixture
def rig(rabbitmq: RabbitMQ) -> Iterator[Rig]:
    """A separate queue on the session's broker."""
    created = Rig(rabbitmq)
    yield created
    created.clear()


@pytest.fixture
def closed_port() -> Iterator[Broker]:
    """A broker at a closed port, which is bound so that no other program can listen on it."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield Broker("127.0.0.1", bound.getsockname()[1])


def test_confirmed_messages_are_delivered_once_without_failures(rig: Rig) -> None:
    """Of 2,000 messages from 8 threads, each is confirmed and handled, and none twice."""
    publisher, recorder = rig.publisher(), Recorder()
    rig.consumer(recorder)
    with ThreadPoolExecutor(8) as threads:
        futures = list(threads.map(lambda n: publisher.publish(f"GET /unicorn {n}", message_id=str(n)), range(2000)))
    for future in futures:
        assert future.result(60) is None
    until(lambda: len(recorder.messages) >= 2000)
    assert recorder.ids == Counter({str(n): 1 for n in range(2000)})


def test_a_message_survives_without_a_consumer_and_is_persistent(rig: Rig) -> None:
    """It is consumed later; its properties are text, UTF-8, persistent, with id and trace context."""
    rig.publisher().publish("POST /unicorn é", message_id="m1").result(60)
    with rig.channel() as channel:
        _method, properties, body = channel.basic_get(rig.queue, auto_ack=True)
    assert body.decode() == "POST /unicorn é"
    assert (properties.message_id, properties.delivery_mode) == ("m1", 2)
    assert (properties.content_type, properties.content_encoding) == ("text/plain", "utf-8")
    assert properties.headers["traceparent"].startswith("00-")


def test_one_producer_span_per_message_in_the_callers_trace(rig: Rig) -> None:
    """It ends with the confirm and has the attributes of the semantic conventions."""
    publisher = rig.publisher()
    with rig.tracer.start_as_current_span("caller") as caller:
        future = publisher.publish("GET /unicorn", message_id="m1")
    future.result(60)
    (span,) = rig.spans("publish_to_queue")
    assert span.kind is SpanKind.PRODUCER
    assert span.parent == caller.get_span_context()
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes or {}) == {
        "messaging.system": "rabbitmq",
        "messaging.operation.type": "send",
        "messaging.operation.name": "publish",
        "messaging.destination.name": rig.queue,
        "messaging.rabbitmq.destination.routing_key": rig.queue,
        "messaging.message.id": "m1",
        "messaging.message.body.size": 12,
        "server.address": rig.broker.host,
        "server.port": rig.broker.port,
    }


def test_baggage_crosses_the_queue_and_allowed_members_become_attributes(rig: Rig) -> None:
    """The global propagator writes both context headers; other members could let callers create labels."""
    seen: list[Mapping[str, object]] = []
    rig.consumer(lambda _message: seen.append(baggage.get_all()))
    members = {"user_agent.synthetic.type": "test", "loadtest.shape": "spike", "customer": "secret"}
    caller = context.Context()
    for name, value in members.items():
        caller = baggage.set_baggage(name, value, caller)
    token = context.attach(caller)
    rig.publisher().publish("GET /unicorn").result(60)
    context.detach(token)
    until(lambda: rig.spans("process_message"))
    (span,) = rig.spans("process_message")
    assert seen == [members]
    found = {name: value for name, value in (span.attributes or {}).items() if name in members}
    assert found == {"user_agent.synthetic.type": "test", "loadtest.shape": "spike"}


def test_publishing_is_counted_and_timed_with_exemplars(rig: Rig) -> None:
    """There is one point per outcome, with labels of the queue and not of the message; exemplars have the trace."""
    publisher = rig.publisher()
    publisher.publish("GET /unicorn").result(60)
    labels = {
        "messaging.system": "rabbitmq",
        "messaging.destination.name": rig.queue,
        "messaging.operation.name": "publish",
    }
    (duration,) = rig.points("messaging.client.operation.duration")
    assert (dict(duration.attributes), duration.count) == (labels, 1)
    (span,) = rig.spans("publish_to_queue")
    assert span.context is not None
    assert [exemplar.span_id for exemplar in duration.exemplars] == [span.context.span_id]
    (sent,) = rig.points("messaging.client.sent.messages")
    assert (dict(sent.attributes), sent.value) == (labels, 1)
    (in_flight,) = rig.points("mythical_publisher_in_flight")
    assert in_flight.value == 0


def test_a_delayed_message_is_published_after_the_delay(rig: Rig) -> None:
    """With the injected fault, the span includes the delay, publish() does not, and others overtake."""
    publisher, recorder = rig.publisher(), Recorder()
    rig.consumer(recorder)
    started = time.monotonic()
    slow, quick = publisher.publish("slow", delay_s=2), publisher.publish("quick")
    quick.result(60)
    assert not slow.done()
    slow.result(60)
    assert time.monotonic() - started >= 2
    until(lambda: recorder.texts == ["quick", "slow"])


def test_close_flushes_messages_in_flight_and_delayed_ones(rig: Rig) -> None:
    """All of 500 are sent, none waits for its injected delay, and none can be added afterwards."""
    publisher = rig.publisher()
    futures = [publisher.publish(str(n), delay_s=60 if n % 10 == 0 else 0) for n in range(500)]
    assert publisher.close(10) == 0
    assert [future.exception(0) for future in futures] == [None] * 500
    assert isinstance(publisher.publish("late").exception(0), PublisherClosed)


def test_messages_wait_for_the_broker_within_limits(rig: Rig, closed_port: Broker) -> None:
    """With a closed port, messages fail with BrokerUnavailable: after the timeout, or at once above the limit."""
    publisher = rig.publisher(broker=closed_port, wait=False, max_in_flight=3, confirm_timeout_s=0.5)
    started = time.monotonic()
    futures = [publisher.publish(str(n)) for n in range(4)]
    assert futures[3].done()
    assert wait(futures, 60).not_done == set()
    assert 0.4 < time.monotonic() - started < 10  # the limit is for a busy machine
    assert {type(future.exception()) for future in futures} == {BrokerUnavailable}
    until(lambda: "connection refused" in str(publisher.last_error))
    assert (publisher.ready, publisher.blocked) == (False, False)
    span = rig.spans("publish_to_queue")[0]
    assert span.status.status_code is StatusCode.ERROR
    assert dict(span.attributes or {})["error.type"] == "BrokerUnavailable"
    (sent,) = rig.points("messaging.client.sent.messages")
    assert (sent.attributes["error.type"], sent.value) == ("BrokerUnavailable", 4)


def test_close_returns_the_number_of_unconfirmed_messages(rig: Rig, closed_port: Broker) -> None:
    """Without a broker, it waits for its whole timeout, and the futures then end."""
    publisher = rig.publisher(broker=closed_port, wait=False)
    futures = [publisher.publish(str(n)) for n in range(3)]
    started = time.monotonic()
    assert publisher.close(0.3) == 3
    assert 0.3 <= time.monotonic() - started < 10
    assert {type(future.exception(60)) for future in futures} == {BrokerUnavailable}


def test_a_silent_server_does_not_block_the_publisher(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """It accepts the connection and sends no AMQP: messages time out, and close() does not wait for it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        publisher = rig.publisher(
            broker=Broker("127.0.0.1", silent.getsockname()[1]), wait=False, confirm_timeout_s=0.5
        )
        assert isinstance(publisher.publish("unanswered").exception(60), BrokerUnavailable)
        started = time.monotonic()
        assert publisher.close(60) == 0
        assert time.monotonic() - started < 60
    assert [record.message for record in caplog.records if record.exc_info] == []


def test_an_unavailable_broker_is_one_log_line(rig: Rig, closed_port: Broker, caplog: pytest.LogCaptureFixture) -> None:
    """The log has no traceback, no line per attempt, and no lines of pika."""
    with caplog.at_level(logging.INFO):
        publisher = rig.publisher(broker=closed_port, wait=False)
        with pytest.raises(BrokerUnavailable, match="connection refused"):
            wait_ready(publisher, 1.5)
    (record,) = caplog.records
    assert (record.message, record.levelname, record.exc_info) == ("broker unavailable", "WARNING", None)
    assert record.__dict__["fields"]["reason"] == f"{closed_port.address}: connection refused, nothing listens there"


def test_a_wrong_password_is_reported_and_not_shown(rig: Rig) -> None:
    """The error has the user, and not the password."""
    wrong = Broker(rig.broker.host, rig.broker.port, "guest", "s3cret")
    publisher = rig.publisher(broker=wrong, wait=False)
    until(lambda: "access refused for user 'guest'" in str(publisher.last_error))
    assert "s3cret" not in str(publisher.last_error)


def test_too_many_messages_in_flight_are_rejected_at_once(rig: Rig) -> None:
    """A caller that is faster than the broker gets an error, and its messages don't accumulate in memory."""
    publisher = rig.publisher(max_in_flight=10)
    futures = [publisher.publish(str(n), delay_s=0.5) for n in range(12)]
    assert [type(future.exception(0)) for future in futures[10:]] == [TooManyInFlight] * 2
    assert [future.exception(60) for future in futures[:10]] == [None] * 10
    assert publisher.publish("room again").exception(60) is None


def test_a_deleted_queue_is_reported_and_declared_again(rig: Rig) -> None:
    """The message without a queue fails as Unroutable; soon afterwards, the next one arrives."""
    publisher = rig.publisher()
    with rig.channel() as channel:
        channel.queue_delete(rig.queue)
    assert isinstance(publisher.publish("lost").exception(60), Unroutable)
    until(lambda: publisher.publish("arrives").exception(60) is None)


@pytest.mark.parametrize("ours_first", [True, False])
def test_other_clients_can_declare_the_same_queue(rig: Rig, ours_first: bool) -> None:
    """amqplib's assertQueue('messages') and other clients declare it durable and without arguments, first or second."""
    publisher = rig.publisher() if ours_first else None
    with rig.channel() as channel:
        channel.queue_declare(rig.queue, durable=True)
        (publisher or rig.publisher()).publish("shared").result(60)
        _method, _properties, body = channel.basic_get(rig.queue, auto_ack=True)
        channel.queue_declare(rig.queue, durable=True)
    assert body == b"shared"


# The arguments with which earlier versions of this package declared the queue.
OLD_ARGUMENTS = {
    "x-queue-type": "quorum",
    "x-delivery-limit": 100,
    "x-dead-letter-exchange": "",
    "x-dead-letter-routing-key": "test.dead",
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
}


def test_a_queue_with_the_old_arguments_is_reported_with_the_fix(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """The error has queue, difference and fix, and is logged once; publishing works once the queue is deleted."""
    with rig.channel() as channel:
        channel.queue_declare(rig.queue, durable=True, arguments=OLD_ARGUMENTS)
    with caplog.at_level(logging.WARNING):
        publisher = rig.publisher(wait=False, confirm_timeout_s=1.0)
        with pytest.raises(
            QueueMismatch, match=rf"queue '{rig.queue}' .*: x-.* is .*, expected none.*delete_queue {rig.queue}"
        ):
            wait_ready(publisher, 10)
        assert isinstance(publisher.publish("no").exception(60), QueueMismatch)
    assert [record.message for record in caplog.records] == ["broker unavailable"]
    with rig.channel() as channel:
        channel.queue_delete(rig.queue)
    until(lambda: publisher.ready)
    assert publisher.publish("yes").exception(60) is None


def test_a_full_queue_rejects_a_message_with_an_error(rig: Rig) -> None:
    """An operator's policy limits the queue's length: Basic.Nack becomes NotConfirmed at once."""
    publisher = rig.publisher()
    bound = '{"max-length": 5, "overflow": "reject-publish"}'
    rabbitmqctl(rig.rabbitmq, "set_policy", rig.queue, f"^{rig.queue}$", bound, "--apply-to", "queues")
    try:
        until(lambda: isinstance(publisher.publish("more").exception(60), NotConfirmed))
    finally:
        rabbitmqctl(rig.rabbitmq, "clear_policy", rig.queue)


def test_the_brokers_memory_alarm_blocks_the_publisher(rig: Rig) -> None:
    """The publisher is blocked and stays connected, and messages time out; after the alarm they are sent again."""
    publisher = rig.publisher(confirm_timeout_s=1.0)
    rabbitmqctl(rig.rabbitmq, "set_vm_memory_high_watermark", "0")
    try:
        errors = [type(publisher.publish("first").exception(60)) for _ in range(2)]
        assert publisher.blocked
        assert publisher.ready
        assert errors[1] in {NotConfirmed, BrokerBlocked}
        assert type(publisher.publish("held").exception(60)) is BrokerBlocked
    finally:
        rabbitmqctl(rig.rabbitmq, "set_vm_memory_high_watermark", "0.4")
    until(lambda: not publisher.blocked)
    until(lambda: publisher.publish("again").exception(60) is None)


def test_the_brokers_disk_alarm_blocks_the_publisher(rig: Rig) -> None:
    """Free disk space is below the limit."""
    publisher = rig.publisher(confirm_timeout_s=1.0)
    rabbitmqctl(rig.rabbitmq, "set_disk_free_limit", "900000GB")
    try:
        publisher.publish("first").exception(60)
        until(lambda: publisher.blocked)
    finally:
        rabbitmqctl(rig.rabbitmq, "set_disk_free_limit", "50MB")
    until(lambda: not publisher.blocked)


def test_the_callers_thread_never_waits(rig: Rig, closed_port: Broker) -> None:
    """publish() returns while the message waits, for a suspended broker and for an unavailable one."""
    hanging = rig.publisher()
    with stopped(rig.rabbitmq):
        for publisher in (hanging, rig.publisher(broker=closed_port, wait=False)):
            assert not any(future.done() for future in [publisher.publish("GET /unicorn") for _ in range(500)])
