"""Publish messages with confirms, without waiting for them."""

import logging
import random
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from threading import Condition

from opentelemetry import context, propagate, trace
from opentelemetry.metrics import Meter, Observation
from opentelemetry.trace import SpanKind, Tracer
from pika import BasicProperties  # type: ignore[import-untyped]  # pika ships no py.typed

from common.messaging.connection import ConfirmedSender, IOLoopThread, Outgoing
from common.messaging.errors import MessagingError, PublisherClosed, TooManyInFlight, copy_error
from common.messaging.handler import SENT_MS
from common.messaging.telemetry import OperationMetrics, mark_failed, queue_labels, span_attributes
from common.messaging.topology import Broker, work_queue

log = logging.getLogger(__name__)

# A confirm takes about a millisecond on an idle local broker and the whole deadline while the broker is unavailable.
PUBLISH_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

PERSISTENT = 2  # AMQP 0-9-1 delivery-mode: written to disk


class Publisher:
    """Sends text messages to one queue from any number of threads.

    A message is done when the broker has confirmed it, that is, has stored it on disk. While the broker is unavailable
    messages wait, at most `max_in_flight` of them and each at most `confirm_timeout_s` seconds; then they fail. A
    message that was sent but not confirmed when the connection broke is sent again, so it may arrive twice with the
    same message_id.
    """

    def __init__(
        self,
        broker: Broker,
        *,
        tracer: Tracer,
        meter: Meter,
        queue: str = "messages",
        max_in_flight: int = 2_000,
        confirm_timeout_s: float = 10.0,
    ) -> None:
        self._broker = broker
        self._tracer = tracer
        self._queue = queue
        self._max_in_flight = max_in_flight
        self._confirm_timeout_s = confirm_timeout_s
        self._random = random.Random()  # noqa: S311 - ids, not secrets
        self._state = Condition()  # guards the two fields below
        self._in_flight = 0
        self._closed = False
        self._thread = IOLoopThread("publisher")
        self._sender = ConfirmedSender(self._thread, broker, "publisher", [work_queue(queue)])
        self._delayed: dict[Outgoing, object] = {}
        self._metrics = publish_metrics(meter, queue, lambda: self._in_flight, lambda: self.blocked)
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether a message published now goes straight to the broker (unless it is `blocked`)."""
        return self._sender.ready

    @property
    def blocked(self) -> bool:
        """Whether the broker's memory or disk alarm blocks publishers."""
        return self._sender.blocked

    @property
    def last_error(self) -> MessagingError | None:
        """Why it is not ready: BrokerUnavailable or QueueMismatch; None when it is."""
        return self._sender.last_error

    def publish(self, text: str, *, delay_s: float = 0.0, message_id: str | None = None) -> "Future[None]":
        """Start to send `text` and return at once; the future ends when the broker has confirmed, or with an error.

        The span starts in the caller's context, and the message carries it to the consumer. Errors, all in the future:
        BrokerUnavailable, BrokerBlocked, QueueMismatch (certainly not sent), NotConfirmed (unknown), Unroutable,
        TooManyInFlight, PublisherClosed. `delay_s` delays sending by that many seconds, for fault injection.
        `message_id` defaults to a random one. The future's callbacks run on the connection's thread, in the context of
        the caller: keep them short.
        """
        started = time.monotonic()
        body = text.encode()
        # Not uuid4(): its system call releases the interpreter's lock, and under load the caller would wait
        # milliseconds to get it back.
        message_id = message_id or f"{self._random.getrandbits(128):032x}"
        span = self._tracer.start_span(
            "publish_to_queue",  # the name the suite's traces have always had, not the conventions' "publish messages"
            kind=SpanKind.PRODUCER,
            attributes=span_attributes(self._broker, self._queue, "publish", message_id, len(body)),
        )
        caller, sending = context.get_current(), trace.set_span_in_context(span)
        headers: dict[str, str | int] = {}
        propagate.inject(headers, sending)
        now = time.time()
        headers[SENT_MS] = round((now + delay_s) * 1000)
        properties = BasicProperties(
            content_type="text/plain",
            content_encoding="utf-8",
            delivery_mode=PERSISTENT,
            headers=headers,
            message_id=message_id,
            timestamp=int(now),
        )
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()  # from here on cancel() returns False: what is sent cannot be recalled

        def finish(error: MessagingError | None) -> None:
            """End metrics, span and future, in this order: code that waits for the future finds the others done."""
            self._metrics.record(time.monotonic() - started, error, sending)
            if error is not None:
                mark_failed(span, error)
            span.end()
            token = context.attach(caller)
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
            context.detach(token)

        def done(error: MessagingError | None) -> None:
            with self._state:
                self._in_flight -= 1
                self._state.notify_all()
            finish(error)

        rejection = self._reserve()
        if rejection is None:
            message = Outgoing(self._queue, body, properties, started + delay_s + self._confirm_timeout_s, done)
            self._thread.call_soon_threadsafe(partial(self._send, message, delay_s))
        else:
            finish(rejection)
        return future

    def close(self, timeout_s: float) -> int:
        """Accept no more, send what was accepted, and return how many were not confirmed within `timeout_s` seconds."""
        deadline = time.monotonic() + timeout_s
        with self._state:
            self._closed = True
        self._thread.call_soon_threadsafe(self._send_delayed)
        with self._state:
            self._state.wait_for(lambda: self._in_flight == 0, timeout_s)
            left = self._in_flight
        if left:
            log.warning("messages not confirmed at close", extra={"fields": {"count": left}})
            self._thread.call_soon_threadsafe(self._sender.fail_all)
        self._thread.stop(max(deadline - time.monotonic(), 0.5))
        return left

    def _reserve(self) -> MessagingError | None:
        """Reserve one of the `max_in_flight` places, or return why there is none."""
        with self._state:
            if self._closed:
                return PublisherClosed("the publisher is closed")
            if self._in_flight < self._max_in_flight:
                self._in_flight += 1
                return None
        error = self.last_error  # read once: the connection's thread may clear it between two reads
        if error is not None:
            return copy_error(error)
        return TooManyInFlight(f"{self._max_in_flight} messages are waiting for their confirm")

    def _send(self, message: Outgoing, delay_s: float = 0.0) -> None:
        if delay_s > 0 and not self._closed:
            self._delayed[message] = self._thread.call_later(delay_s, partial(self._send, message))
        else:
            self._delayed.pop(message, None)
            self._sender.send(message)

    def _send_delayed(self) -> None:
        for message, timer in list(self._delayed.items()):
            self._thread.cancel(timer)
            self._send(message)


def publish_metrics(
    meter: Meter, queue: str, in_flight: Callable[[], int], blocked: Callable[[], bool]
) -> OperationMetrics:
    """Create a publisher's instruments; `in_flight` and `blocked` are read at each collection."""
    meter.create_observable_gauge(
        "mythical_publisher_blocked",
        [lambda _options: [Observation(int(blocked()), {"messaging.destination.name": queue})]],
        description="1 while the broker's memory or disk alarm blocks the publisher, 0 otherwise.",
    )
    meter.create_observable_gauge(
        "mythical_publisher_in_flight",
        [lambda _options: [Observation(in_flight(), {"messaging.destination.name": queue})]],
        unit="{message}",
        description="Messages passed to the publisher that the broker has not confirmed yet.",
    )
    sent = meter.create_counter(
        "messaging.client.sent.messages", "{message}", "Messages the producer tried to send to the broker."
    )
    duration = meter.create_histogram(
        "messaging.client.operation.duration",
        "s",
        "From publish() until the broker confirmed or the message failed.",
        explicit_bucket_boundaries_advisory=PUBLISH_SECONDS,
    )
    return OperationMetrics(sent, duration, {**queue_labels(queue), "messaging.operation.name": "publish"})
