"""The handler of a message creates its span and metrics and decides its disposition, without a broker."""

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
    """A handler and its telemetry."""

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
        """Return the disposition of one delivery."""
        return self.handler.process(Delivery(None, 7, True, BasicProperties(**properties), body))

    def ages(self) -> list[float]:
        """Return the sum of each series of ages: one per test, which sends one message."""
        data = self.reader.get_metrics_data()
        found = [] if data is None else data.resource_metrics[0].scope_metrics[0].metrics
        points = [point for one in found if one.name == "mythical_message_age" for point in one.data.data_points]
        return [point.sum for point in points if isinstance(point, HistogramDataPoint)]

    @property
    def span(self) -> ReadableSpan:
        """Return the only span."""
        (span,) = self.exporter.get_finished_spans()
        return span

    def attributes(self, span: ReadableSpan) -> dict[str, Any]:
        """Return a span's attributes as a plain dict."""
        return dict(span.attributes or {})


def fail(_message: Message) -> None:
    """Raise an error, as a handler that always fails."""
    raise ValueError("secret of a message")


def test_a_handled_message_is_acknowledged() -> None:
    """The handler gets text, ID, headers, and attempt."""
    seen: list[Message] = []
    disposition = Bench(seen.append).process(message_id="m1", headers={"a": 1, "x-attempts": 1})
    assert disposition == Disposition()
    (message,) = seen
    assert (message.text, message.body, message.message_id) == ("GET /unicorn", b"GET /unicorn", "m1")
    assert (message.redelivered, message.attempt) == (True, 2)
    assert message.headers == {"a": 1, "x-attempts": 1}


def test_the_span_is_a_child_of_the_producer_span_with_standard_attributes() -> None:
    """A service graph matches the two spans by trace and parent."""
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
    """OTEL_PROPAGATORS decides: with baggage only, there is no parent."""
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(W3CBaggagePropagator())
    try:
        bench = Bench(lambda _message: None)
        bench.process(headers={"traceparent": TRACEPARENT, "baggage": "user_agent.synthetic.type=bot"})
    finally:
        propagate.set_global_textmap(before)
    assert bench.span.parent is None
    assert bench.attributes(bench.span)["user_agent.synthetic.type"] == "bot"


def test_a_redelivered_message_is_counted_before_it_is_handled() -> None:
    """It is replaced by a copy with a higher count up to the limit, and then dead-lettered."""
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
    """A message of another sender without these headers, or with invalid ones, is handled too."""
    bench = Bench(lambda _message: None)
    assert bench.process(headers=headers) == Disposition()
    assert bench.span.parent is None
    assert "messaging.message.id" not in bench.attributes(bench.span)


def test_the_age_of_a_message_counts_from_its_timestamp() -> None:
    """It includes the time before the broker, in the queue, and in the recorder, with AMQP's resolution of a second."""
    bench = Bench(lambda _message: None)
    bench.process(timestamp=int(time.time()) - 40)
    (age,) = bench.ages()
    assert 40 <= age < 45


@pytest.mark.parametrize("timestamp", [None, 0, -5, True, "yesterday", 1.5])
def test_a_message_without_a_valid_timestamp_has_no_age(timestamp: object) -> None:
    """The message is handled anyway."""
    bench = Bench(lambda _message: None)
    assert bench.process(timestamp=timestamp) == Disposition()
    assert bench.ages() == []


def test_a_message_with_a_future_timestamp_has_age_0() -> None:
    """The sender's clock is ahead; a negative age would make the sum wrong."""
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
def test_the_span_has_the_time_that_the_message_waited(headers: dict[str, object], waited: float) -> None:
    """The resolution is a millisecond, or AMQP's second without the header; the time is never negative."""
    bench = Bench(lambda _message: None)
    bench.handler.clock = lambda: 1000.0
    bench.process(headers=headers, timestamp=999)
    assert bench.attributes(bench.span)["mythical.message.wait_s"] == waited


def test_a_message_that_failed_has_no_age() -> None:
    """It was not recorded yet."""
    bench = Bench(fail)
    bench.process(timestamp=int(time.time()) - 40)
    assert bench.ages() == []


@pytest.mark.parametrize(("made", "queue"), [(0, "messages.retry"), (1, "messages.retry"), (2, "messages.dead")])
def test_a_failure_is_retried_until_the_last_attempt(made: int, queue: str) -> None:
    """Of three attempts, the first two failures are requeued for a retry, and the third is dead-lettered."""
    disposition = Bench(fail).process(headers={"x-attempts": made})
    assert disposition == Disposition(queue, "ValueError: secret of a message")


def test_a_failure_marks_span_and_metrics_with_the_class_only() -> None:
    """error.type has a bounded set of values; the exception's text may quote the message and is in no attribute."""
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
def test_a_poison_message_is_dead_lettered_at_the_first_attempt(
    body: bytes, headers: dict[str, Any], reason: str
) -> None:
    """A retry cannot succeed, because the handler rejects the message or it cannot be decoded."""

    def reject(_message: Message) -> None:
        raise PoisonMessage("not about a beast")

    assert Bench(reject).process(body, headers=headers) == Disposition("messages.dead", reason)


def test_a_handler_that_exits_fails_the_message_and_not_the_thread() -> None:
    """sys.exit() in a handler would otherwise end one worker after the other, each with a message in flight."""

    def leave(_message: Message) -> None:
        raise SystemExit(1)

    assert Bench(leave).process() == Disposition("messages.retry", "SystemExit: 1")


def points(reader: InMemoryMetricReader, name: str) -> list[dict[str, Any]]:
    """Return the attribute sets of a metric's data points."""
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
