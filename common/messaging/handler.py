"""Work on one message: its headers, its span, its metrics, and where it goes next.

An unknown sender may have chosen every key, type and value of the headers.
"""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType

from opentelemetry import context, propagate
from opentelemetry.metrics import Meter
from opentelemetry.trace import NoOpTracer, SpanKind, Tracer
from pika import BasicProperties  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.channel import Channel  # type: ignore[import-untyped]  # pika ships no py.typed

from common.messaging.errors import PoisonMessage, one_line
from common.messaging.telemetry import (
    AGE_SECONDS,
    WAIT_SECONDS,
    error_type,
    mark_failed,
    process_metrics,
    queue_labels,
    span_attributes,
)
from common.messaging.tolerant import CODEC_ERRORS, UNREADABLE
from common.messaging.topology import Broker, dead_name, retry_name
from common.telemetry.semconv import synthetic_attributes

log = logging.getLogger(__name__)

# Ours. Not x-death: RabbitMQ 4 ignores one that a client sends back, so its counts would start again with each retry.
ATTEMPTS = "x-attempts"
REASON = "x-reason"
REDELIVERIES = "x-redeliveries"
SENT_MS = "x-sent-ms"  # AMQP's own timestamp has whole seconds

MAX_COUNT = 1_000_000
# The broker closes the connection on a header frame above frame_max (128 KiB). What arrived just below it must not
# exceed it by our additions: the message could never be moved.
MAX_HEADER_BYTES = 64 * 1024

# The broker writes these itself. CC and BCC are orders to it: copied, each retry would send copies to other queues.
_BROKERS_OWN = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count")
# UNREADABLE describes the message as received; copied, it would reject a dead letter that is requeued by hand.
_NOT_COPIED = frozenset({"CC", "BCC", UNREADABLE})
_COPIED = "content_type content_encoding correlation_id reply_to message_id timestamp type app_id".split()


@dataclass(frozen=True, slots=True)
class Message:
    """A text message; `attempt` counts from 1, `redelivered` means that it may have been worked on before."""

    text: str
    body: bytes
    message_id: str | None
    headers: Mapping[str, object]
    redelivered: bool
    attempt: int


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """A message as received, and the channel to acknowledge it on: delivery tags are valid on that one only."""

    channel: Channel
    tag: int
    redelivered: bool
    properties: BasicProperties
    body: bytes

    @property
    def headers(self) -> dict[str, object]:
        """The headers whose keys are text; pika leaves a key as bytes where it is not UTF-8."""
        return {key: value for key, value in (self.properties.headers or {}).items() if isinstance(key, str)}

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return min(_positive(self.headers.get(ATTEMPTS)), MAX_COUNT) + 1

    @property
    def redeliveries(self) -> int:
        """How often the message was delivered before to a consumer that did not acknowledge it, as far as counted."""
        return min(_positive(self.headers.get(REDELIVERIES)), MAX_COUNT)

    @property
    def message_id(self) -> str | None:
        """The sender's id if it is text; pika leaves bytes that are not UTF-8 as bytes."""
        found = self.properties.message_id
        return found if isinstance(found, str) else None

    @property
    def sent_at(self) -> int | None:
        """When the message was sent, in seconds since 1970, if its sender set a valid timestamp; a retry keeps it.

        AMQP's timestamp has whole seconds, so an age computed from it is up to a second too long.
        """
        return _positive(self.properties.timestamp) or None

    @property
    def waited_from(self) -> float | None:
        """When the message entered the queue first, in seconds since 1970, to the millisecond if its sender says so."""
        return _positive(self.headers.get(SENT_MS)) / 1000 or self.sent_at


def _positive(value: object) -> int:
    """Return a number of an unknown sender, 0 for anything but a whole number above 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


@dataclass(frozen=True, slots=True)
class Disposition:
    """Where a message goes next: acknowledged if `move_to` is None, else moved to that queue for `reason`."""

    move_to: str | None = None
    reason: str = ""
    redelivery: bool = False  # it is moved to count that it was delivered again, not because an attempt failed


def decode(delivery: Delivery, max_body_bytes: int) -> Message:
    """Return the message; raise PoisonMessage if it is too large, not UTF-8 or has headers that cannot be read."""
    headers = delivery.headers
    if UNREADABLE in headers:
        raise PoisonMessage("headers that cannot be read")
    if len(delivery.body) > max_body_bytes:
        raise PoisonMessage(f"body of {len(delivery.body)} bytes, the limit is {max_body_bytes}")
    try:
        text = delivery.body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PoisonMessage(f"body is not UTF-8 at byte {error.start}") from error
    redelivered = delivery.redelivered or delivery.redeliveries > 0
    return Message(text, delivery.body, delivery.message_id, MappingProxyType(headers), redelivered, delivery.attempt)


def carrier(headers: Mapping[str, object]) -> dict[str, str]:
    """Return the headers that can hold context, the text ones: a propagator raises on a number or a list."""
    return {key: value for key, value in headers.items() if isinstance(value, str)}


def copied(delivery: Delivery, *, attempts: int, redeliveries: int, reason: str) -> BasicProperties:
    """Return properties for a copy of the message in another queue: the sender's, with our counts and reason.

    Left out are user_id (the broker rejects one that is not our own, and would close the channel), expiration (it
    would shorten the retry delay or the time in the dead-letter queue) and priority. What cannot be sent is left out.
    """
    ours: dict[str, object] = {ATTEMPTS: attempts, REASON: one_line(reason)}
    if redeliveries:
        ours[REDELIVERIES] = redeliveries
    kept = {name: getattr(delivery.properties, name) for name in _COPIED}
    theirs = {
        key: value
        for key, value in delivery.headers.items()
        if not (key in _NOT_COPIED or key.startswith(_BROKERS_OWN))
    }
    traced = {key: value for key, value in carrier(theirs).items() if key in propagate.get_global_textmap().fields}
    for properties in (
        BasicProperties(**kept, headers={**theirs, **ours}, delivery_mode=2),
        BasicProperties(headers={**traced, **ours}, message_id=delivery.message_id, delivery_mode=2),
    ):
        with suppress(*CODEC_ERRORS):  # pika cannot encode every value that it decodes
            if sum(len(piece) for piece in properties.encode()) <= MAX_HEADER_BYTES:
                return properties
    return BasicProperties(headers=ours, delivery_mode=2)


@dataclass(eq=False)
class InstrumentedHandler:
    """Calls the handler within a CONSUMER span, a child of the producer's; safe for many threads."""

    broker: Broker
    queue: str
    handle: Callable[[Message], None]
    tracer: Tracer
    meter: Meter
    attempts: int
    max_redeliveries: int
    max_body_bytes: int = 64 * 1024
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        self._metrics = process_metrics(self.meter, self.queue)
        self._age = self.meter.create_histogram(
            "mythical_message_age",
            "s",
            "From publish() until the message was processed.",
            explicit_bucket_boundaries_advisory=AGE_SECONDS,
        )

        self._wait = self.meter.create_histogram(
            "mythical_message_wait",
            "s",
            "From sending the message until the work on it began.",
            explicit_bucket_boundaries_advisory=WAIT_SECONDS,
        )

    def process(self, delivery: Delivery) -> Disposition:
        """Work on the message and return its disposition; nothing is raised."""
        # The sender's span and its baggage, also for the handler; where others instrument this process, it is current.
        others = isinstance(self.tracer, NoOpTracer)
        token = context.attach(context.get_current() if others else propagate.extract(carrier(delivery.headers)))
        try:
            return self._process(delivery)
        finally:
            context.detach(token)

    def _process(self, delivery: Delivery) -> Disposition:
        attributes = span_attributes(self.broker, self.queue, "process", delivery.message_id, len(delivery.body))
        attributes["messaging.rabbitmq.message.delivery_tag"] = delivery.tag
        if (sent := delivery.waited_from) is not None:
            # Clocks of two hosts differ: a message from the future has not waited.
            attributes["mythical.message.wait_s"] = waited_s = round(max(self.clock() - sent, 0.0), 3)
            self._wait.record(waited_s, queue_labels(self.queue))
        # The name the suite's traces have always had; the conventions would say "process messages".
        with self.tracer.start_as_current_span(
            "process_message", kind=SpanKind.CONSUMER, attributes={**attributes, **synthetic_attributes()}
        ) as span:
            started = time.monotonic()
            try:
                self.handle(decode(delivery, self.max_body_bytes))
            except BaseException as error:  # SystemExit too: it would end this worker, its message unacknowledged
                self._metrics.record(time.monotonic() - started, error)
                mark_failed(span, error)
                if not isinstance(error, PoisonMessage):
                    span.record_exception(error)
                return self._failed(delivery, error)
            self._metrics.record(time.monotonic() - started, None)
            # Only of what succeeded: what failed for good is counted among the dead letters.
            if delivery.sent_at is not None:
                # Clocks of two hosts differ: a message from the future counts as new.
                self._age.record(max(self.clock() - delivery.sent_at, 0.0), queue_labels(self.queue))
            return Disposition()

    def count_redelivery(self, delivery: Delivery) -> Disposition:
        """Return the disposition of a message that a consumer received before and did not acknowledge.

        A classic queue does not count deliveries, and a message that kills its consumer would do so forever. A copy
        with a higher count takes its place in the queue, until the limit sends it to the dead-letter queue.
        """
        if delivery.redeliveries < self.max_redeliveries:
            return Disposition(self.queue, "delivered again", redelivery=True)
        reason = f"delivered again {delivery.redeliveries} times, never acknowledged"
        log.error("message dead-lettered", extra={"fields": {**_fields(delivery), "reason": reason}})
        return Disposition(dead_name(self.queue), reason, redelivery=True)

    def _failed(self, delivery: Delivery, error: BaseException) -> Disposition:
        """Retry, or dead-letter a poison message and one whose last attempt failed."""
        name = error_type(error)
        reason = one_line(f"{name}: {error}")
        fields = {**_fields(delivery), "error_type": name}
        if isinstance(error, PoisonMessage):
            log.warning("poison message", extra={"fields": {**fields, "reason": str(error)}})
            return Disposition(dead_name(self.queue), reason)
        if delivery.attempt >= self.attempts:
            log.error("message dead-lettered", exc_info=error, extra={"fields": fields})
            return Disposition(dead_name(self.queue), reason)
        log.warning("message failed, will be retried", extra={"fields": fields})
        return Disposition(retry_name(self.queue), reason)


def _fields(delivery: Delivery) -> dict[str, object]:
    return {"message_id": delivery.message_id or "", "attempt": delivery.attempt}
