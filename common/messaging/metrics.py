"""The instruments for messages, named by the OpenTelemetry conventions where those have a name."""

from collections.abc import Callable, Iterable, Mapping

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, Observation

from common.messaging.spans import error_type

# A confirm takes about a millisecond on an idle local broker and the whole deadline on one that is away.
PUBLISH_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# The work on a message takes 20 to 50 ms; the fine steps are there.
PROCESS_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# A message is recorded at once, or after a burst was worked off; beyond ten minutes nobody counts any more.
AGE_SECONDS = (0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)

Labels = dict[str, str]


class Timed:
    """A counter and a histogram that are always recorded together."""

    def __init__(self, counter: Counter, histogram: Histogram, queue: str, operation: str) -> None:
        self._counter = counter
        self._histogram = histogram
        self._labels = labels(queue, operation)

    def record(self, seconds: float, error: BaseException | None, context: Context) -> None:
        """Count one message that took `seconds`; `context` holds its span, which becomes the exemplar."""
        attributes = self._labels if error is None else {**self._labels, "error.type": error_type(error)}
        self._counter.add(1, attributes, context=context)
        self._histogram.record(seconds, attributes, context=context)


def labels(queue: str, operation: str) -> Labels:
    """The attributes that every series of a queue has; never anything out of a message."""
    return {
        "messaging.system": "rabbitmq",
        "messaging.destination.name": queue,
        "messaging.operation.name": operation,
    }


def publishing(meter: Meter, queue: str, in_flight: Callable[[], int], blocked: Callable[[], bool]) -> Timed:
    """Instruments of a publisher; `in_flight` and `blocked` are read at each collection."""
    meter.create_observable_gauge(
        "mythical_publisher_blocked",
        [lambda _options: [Observation(int(blocked()), {"messaging.destination.name": queue})]],
        description="1 while the broker's memory or disk alarm holds the publisher back, 0 otherwise.",
    )
    meter.create_observable_gauge(
        "mythical_publisher_in_flight",
        [lambda _options: [Observation(in_flight(), {"messaging.destination.name": queue})]],
        unit="{message}",
        description="Messages handed to the publisher that the broker has not confirmed yet.",
    )
    return Timed(
        meter.create_counter(
            "messaging.client.sent.messages", "{message}", "Messages the producer tried to send to the broker."
        ),
        meter.create_histogram(
            "messaging.client.operation.duration",
            "s",
            "From publish() until the broker confirmed or the publisher gave up.",
            explicit_bucket_boundaries_advisory=PUBLISH_SECONDS,
        ),
        queue,
        "publish",
    )


def processing(meter: Meter, queue: str) -> Timed:
    """Instruments of a consumer's work."""
    return Timed(
        meter.create_counter(
            "messaging.client.consumed.messages", "{message}", "Messages delivered to the application."
        ),
        meter.create_histogram(
            "messaging.process.duration",
            "s",
            "Time the application worked on a message.",
            explicit_bucket_boundaries_advisory=PROCESS_SECONDS,
        ),
        queue,
        "process",
    )


def ages(meter: Meter, queue: str) -> Callable[[float, Context], None]:
    """Give what notes how many seconds old a message was when its work was done; the context holds its span."""
    histogram = meter.create_histogram(
        "mythical_message_age",
        "s",
        "From the hand-over of a message to the publisher until it was processed.",
        explicit_bucket_boundaries_advisory=AGE_SECONDS,
    )
    attributes = {"messaging.system": "rabbitmq", "messaging.destination.name": queue}

    def note(seconds: float, context: Context) -> None:
        histogram.record(seconds, attributes, context=context)

    return note


def retried(meter: Meter) -> Counter:
    """Messages put aside for another attempt."""
    return meter.create_counter(
        "mythical_messages_retried", "{message}", "Messages put aside for another attempt after a failure."
    )


def dead_lettered(meter: Meter) -> Counter:
    """Messages given up."""
    return meter.create_counter(
        "mythical_messages_dead_lettered", "{message}", "Messages moved to the dead-letter queue."
    )


def depths(meter: Meter, read: Callable[[], Mapping[str, int]]) -> None:
    """A gauge of ready messages per queue; `read` gives the last known ones, empty while the broker is away."""

    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(ready, {"queue": queue}) for queue, ready in read().items()]

    meter.create_observable_gauge(
        "mythical_queue_messages",
        [observe],
        unit="{message}",
        description="Messages ready in a queue, without those in a consumer's hands.",
    )
