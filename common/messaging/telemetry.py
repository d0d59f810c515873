"""Spans and metrics of messages, named by the OpenTelemetry semantic conventions where those have a name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from opentelemetry.context import Context
from opentelemetry.metrics import Counter, Histogram, Meter, Observation
from opentelemetry.trace import Span, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from common.messaging.topology import Broker

# The work on a message takes 20 to 50 ms; the fine steps are there.
PROCESS_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# A message is recorded at once, or after the backlog of a burst; above ten minutes the exact age does not matter.
AGE_SECONDS = (0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)

# A message waits for milliseconds, unless messages pile up.
WAIT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


def span_attributes(
    broker: Broker, queue: str, operation: str, message_id: str | None, size: int
) -> dict[str, AttributeValue]:
    """Return the attributes of a span whose `operation` is "publish" or "process"; `size` is that of the body."""
    attributes: dict[str, AttributeValue] = {
        "messaging.system": "rabbitmq",
        "messaging.operation.type": "send" if operation == "publish" else operation,
        "messaging.operation.name": operation,
        "messaging.destination.name": queue,
        "messaging.rabbitmq.destination.routing_key": queue,
        "messaging.message.body.size": size,
        "server.address": broker.host,
        "server.port": broker.port,
    }
    if message_id is not None:
        attributes["messaging.message.id"] = message_id
    return attributes


def mark_failed(span: Span, error: BaseException) -> None:
    """Set status ERROR and error.type, as the conventions require."""
    span.set_attribute("error.type", error_type(error))
    span.set_status(Status(StatusCode.ERROR, error_type(error)))


def error_type(error: BaseException) -> str:
    """Return the class name: a bounded set, unlike the text, which may quote the message."""
    return type(error).__qualname__


def queue_labels(queue: str) -> dict[str, str]:
    """Return the attributes of every series of a queue; nothing of a message's content."""
    return {"messaging.system": "rabbitmq", "messaging.destination.name": queue}


@dataclass(frozen=True)
class OperationMetrics:
    """A counter and a histogram that are always recorded together."""

    counter: Counter
    histogram: Histogram
    labels: dict[str, str]

    def record(self, seconds: float, error: BaseException | None, context: Context | None = None) -> None:
        """Count one message that took `seconds`; the span of `context`, by default the current one, is the exemplar."""
        labels = self.labels if error is None else {**self.labels, "error.type": error_type(error)}
        self.counter.add(1, labels, context)
        self.histogram.record(seconds, labels, context)


def process_metrics(meter: Meter, queue: str) -> OperationMetrics:
    """Create the instruments of the work on messages."""
    consumed = meter.create_counter(
        "messaging.client.consumed.messages", "{message}", "Messages delivered to the application."
    )
    duration = meter.create_histogram(
        "messaging.process.duration",
        "s",
        "Time the application worked on a message.",
        explicit_bucket_boundaries_advisory=PROCESS_SECONDS,
    )
    return OperationMetrics(consumed, duration, {**queue_labels(queue), "messaging.operation.name": "process"})


def observe_unacknowledged(meter: Meter, queue: str, unacked: Callable[[], int], oldest_s: Callable[[], float]) -> None:
    """Create gauges of the messages that a consumer received and did not acknowledge yet, and of the oldest one's age.

    A queue delivers in order, so no message in it is older, except one that waits for another attempt.
    """
    labels = queue_labels(queue)
    meter.create_observable_gauge(
        "mythical_consumer_unacknowledged",
        [lambda _options: [Observation(unacked(), labels)]],
        unit="{message}",
        description="Messages received and not acknowledged yet.",
    )
    meter.create_observable_gauge(
        "mythical_queue_oldest_age",
        [lambda _options: [Observation(oldest_s(), labels)]],
        unit="s",
        description="Age of the oldest message that is not acknowledged yet, 0 if there is none.",
    )


def observe_depths(meter: Meter, depths: Callable[[], Mapping[str, int]]) -> None:
    """Create a gauge of ready messages per queue; `depths` returns the last known ones, empty without a broker."""
    meter.create_observable_gauge(
        "mythical_queue_messages",
        [lambda _options: [Observation(ready, {"queue": queue}) for queue, ready in depths().items()]],
        unit="{message}",
        description="Messages ready in a queue, without those delivered and not acknowledged yet.",
    )
