"""Work on one message: span, metrics and disposition, without a broker."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import propagate
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from pika import BasicProperties  # type: ignore[import-untyped]  # pika ships no py.typed

from common.messaging.errors import PoisonMessage
from common.messaging.handler import Delivery, Disposition, InstrumentedHandler, Message
from common.messaging.tolerant import UNREADABLE
from common.messaging.topology import Broker

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Bench:
    """A handler and what it recorded."""

    def __init__(self, handle: Callable[[Message], None]) -> None:
        self.exporter = InMemorySpanExporter()
        tracers = TracerProvider(shutdown_on_exit=False)
        tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.handler = InstrumentedHandler(
            Broker("mq", 5673),
            "messages",
            handle,
            tracer=tracers.get_tracer("test"),
            meter=meters.get_meter("test"),
            attempts=3,
            max_redeliveries=2,
            max_body_bytes=100,
        )

    def process(self, body: bytes = b"GET /unicorn", **properties: Any) -> Disposition:
        """The disposition on one delivery."""
        return self.handler.process(Delivery(None, 7, True, BasicProperties(**properties), body))

    def ages(self) -> list[float]:
        """The sum of each series of ages: one for each test here, which sends one message."""
        data = self.reader.get_metrics_data()
        found = [] if data is None else data.resource_metrics[0].scope_metrics[0].metrics
        points = [point for one in found if one.name == "mythical_message_age" for point in one.data.data_points]
        return [point.sum for point in points if isinstance(point, HistogramDataPoint)]

    @property
    def span(self) -> ReadableSpan:
        """The one span that was made."""
        (span,) = self.exporter.get_finished_spans()
        return span

    def attributes(self, span: ReadableSpan) -> dict[str, Any]:
        """A span's attributes as a plain dict."""
        return dict(span.attributes or {})


def fail(_message: Message) -> None:
    """A handler that always fails."""
    raise ValueError("secret of a message")


def test_a_message_that_was_handled_is_done() -> None:
    """The handler sees text, id, headers and attempt; the disposition is to acknowledge."""
    seen: list[Message] = []
    disposition = Bench(seen.append).process(message_id="m1", headers={"a": 1, "x-attempts": 1})
    assert disposition == Disposition()
    (message,) = seen
    assert (message.text, message.body, message.message_id) == ("GET /unicorn", b"GET /unicorn", "m1")
    assert (message.redelivered, message.attempt) == (True, 2)
    assert message.headers == {"a": 1, "x-attempts": 1}


def test_the_span_is_a_child_of_the_producers_with_the_conventions_attributes() -> None:
    """Same trace, the producer as parent: a service graph pairs the two by that."""
    bench = Bench(lambda _message: None)
    bench.process(message_id="m1", headers={"traceparent": TRACEPARENT})
    span = bench.span
    assert (span.name, span.kind) == ("process_message", SpanKind.CONSUMER)
    assert span.parent is not None
    assert f"{span.parent.trace_id:032x}-{span.parent.span_id:016x}" == TRACEPARENT[3:-3]
    assert bench.attributes(span) == {
        "messaging.system": "rabbitmq",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": "messages",
        "messaging.rabbitmq.destination.routing_key": "messages",
        "messaging.rabbitmq.message.delivery_tag": 7,
        "messaging.message.id": "m1",
        "messaging.message.body.size": 12,
        "server.address": "mq",
        "server.port": 5673,
    }


def test_context_is_read_by_the_global_propagator() -> None:
    """OTEL_PROPAGATORS decides: with baggage alone there is no parent."""
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(W3CBaggagePropagator())
    try:
        bench = Bench(lambda _message: None)
        bench.process(headers={"traceparent": TRACEPARENT, "baggage": "user_agent.synthetic.type=bot"})
    finally:
        propagate.set_global_textmap(before)
    assert bench.span.parent is None
    assert bench.attributes(bench.span)["user_agent.synthetic.type"] == "bot"


def test_a_message_that_was_delivered_again_is_counted_before_it_is_worked_on() -> None:
    """A copy with a higher count takes its place, up to the limit; then it is dead-lettered."""
    handler = Bench(lambda _message: None).handler
    counted = [
        handler.count_redelivery(Delivery(None, 7, True, BasicProperties(headers={"x-redeliveries": made}), b""))
        for made in (0, 1, 2)
    ]
    assert [(each.move_to, each.redelivery) for each in counted] == [
        ("messages", True),
        ("messages", True),
        ("messages.dead", True),
    ]


@pytest.mark.parametrize("headers", [None, {}, {"traceparent": 1}, {"traceparent": "nonsense"}, {"tracestate": b"x"}])
def test_without_usable_trace_context_the_span_is_a_root(headers: dict[str, Any] | None) -> None:
    """A foreign message without our headers, or with broken ones, is worked on all the same."""
    bench = Bench(lambda _message: None)
    assert bench.process(headers=headers) == Disposition()
    assert bench.span.parent is None
    assert "messaging.message.id" not in bench.attributes(bench.span)


def test_the_age_of_a_message_counts_from_its_timestamp() -> None:
    """What it waited before the broker, in the queue and in the hands of the recorder, to within AMQP's second."""
    bench = Bench(lambda _message: None)
    bench.process(timestamp=int(time.time()) - 40)
    (age,) = bench.ages()
    assert 40 <= age < 45


@pytest.mark.parametrize("timestamp", [None, 0, -5, True, "yesterday", 1.5])
def test_a_message_that_does_not_say_when_it_was_sent_has_no_age(timestamp: object) -> None:
    """It is worked on all the same."""
    bench = Bench(lambda _message: None)
    assert bench.process(timestamp=timestamp) == Disposition()
    assert bench.ages() == []


def test_a_message_from_the_future_is_new() -> None:
    """The clock of its sender is ahead; a negative age would spoil the sum."""
    bench = Bench(lambda _message: None)
    bench.process(timestamp=2**62)
    assert bench.ages() == [0]


@pytest.mark.parametrize(
    ("headers", "waited"),
    [
        ({"x-sent-ms": 999_250}, 0.75),
        ({"x-sent-ms": 2_000_000}, 0),
        ({"x-sent-ms": "soon"}, 1),
        ({"x-sent-ms": True}, 1),
    ],
)
def test_the_span_says_how_long_the_message_waited(headers: dict[str, object], waited: float) -> None:
    """To the millisecond, or by AMQP's second if the sender says no more; never negative, whatever the clocks say."""
    bench = Bench(lambda _message: None)
    bench.handler.clock = lambda: 1000.0
    bench.process(headers=headers, timestamp=999)
    assert bench.attributes(bench.span)["mythical.message.wait_s"] == waited


def test_a_message_that_failed_has_no_age() -> None:
    """It is not recorded yet."""
    bench = Bench(fail)
    bench.process(timestamp=int(time.time()) - 40)
    assert bench.ages() == []


@pytest.mark.parametrize(("made", "queue"), [(0, "messages.retry"), (1, "messages.retry"), (2, "messages.dead")])
def test_a_failure_is_tried_again_until_the_last_attempt(made: int, queue: str) -> None:
    """Three attempts in all: the first two failures wait for another, the third is the end."""
    disposition = Bench(fail).process(headers={"x-attempts": made})
    assert disposition == Disposition(queue, "ValueError: secret of a message")


def test_a_failure_marks_span_and_metrics_with_the_class_only() -> None:
    """error.type is a bounded set; the exception's text may quote the message and is no status and no label."""
    bench = Bench(fail)
    bench.process()
    assert bench.span.status.status_code is StatusCode.ERROR
    assert bench.span.status.description == "ValueError"
    assert bench.attributes(bench.span)["error.type"] == "ValueError"
    assert points(bench.reader, "messaging.client.consumed.messages") == [
        {
            "messaging.system": "rabbitmq",
            "messaging.destination.name": "messages",
            "messaging.operation.name": "process",
            "error.type": "ValueError",
        }
    ]


@pytest.mark.parametrize(
    ("body", "headers", "reason"),
    [
        (b"\xff\xfe", {}, "PoisonMessage: body is not UTF-8 at byte 0"),
        (b"x" * 101, {}, "PoisonMessage: body of 101 bytes, the limit is 100"),
        (b"ok", {UNREADABLE: True}, "PoisonMessage: headers that cannot be read"),
        (b"ok", {}, "PoisonMessage: not about a beast"),
    ],
)
def test_poison_goes_to_the_dead_letter_queue_at_the_first_attempt(
    body: bytes, headers: dict[str, Any], reason: str
) -> None:
    """No retry can fix it, whether the handler says so or it cannot even be read."""

    def refuse(_message: Message) -> None:
        raise PoisonMessage("not about a beast")

    assert Bench(refuse).process(body, headers=headers) == Disposition("messages.dead", reason)


def test_a_handler_that_exits_fails_the_message_and_not_the_thread() -> None:
    """sys.exit() in a handler would otherwise end one worker after the other, each with a message in hand."""

    def leave(_message: Message) -> None:
        raise SystemExit(1)

    assert Bench(leave).process() == Disposition("messages.retry", "SystemExit: 1")


def points(reader: InMemoryMetricReader, name: str) -> list[dict[str, Any]]:
    """The attribute sets under which a metric was recorded."""
    data = reader.get_metrics_data()
    assert data is not None
    return [
        dict(point.attributes or {})
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    ]
