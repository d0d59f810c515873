"""Publish messages with confirms, without waiting for them."""

import logging
import random
import time
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Condition

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import Meter
from opentelemetry.trace import Span, SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from pika import BasicProperties  # type: ignore[import-untyped]  # pika ships no py.typed

from common.messaging import metrics
from common.messaging.broker import Broker
from common.messaging.errors import MessagingError, PublisherClosed, TooManyInFlight, again
from common.messaging.inbox import Inbox
from common.messaging.outbox import Outbox, Outgoing
from common.messaging.owner import Owner
from common.messaging.readiness import wait_until_ready
from common.messaging.spans import PUBLISH_SPAN, mark_failed, publish_attributes
from common.messaging.topology import work_queue

log = logging.getLogger(__name__)

PERSISTENT = 2  # AMQP 0-9-1 delivery-mode: written to disk


@dataclass(slots=True, eq=False)
class _Publishing:
    """One call of publish() until its end."""

    body: bytes
    properties: BasicProperties
    future: "Future[None]"
    span: Span
    context: Context
    started: float
    delay_s: float


class Publisher:
    """Sends text messages to one queue from any number of threads.

    A message is settled when the broker has confirmed it, that is stored it on disk. While the broker is away messages
    wait, at most `max_in_flight` of them and each at most `confirm_timeout_s` seconds; beyond that they fail. A message
    that was under way when the connection broke is sent again, so it may arrive twice with the same message_id.
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
        self._propagator = TraceContextTextMapPropagator()
        self._state = Condition()  # guards the two fields below
        self._in_flight = 0
        self._closed = False
        self._owner = Owner("publisher")
        self._outbox = Outbox(self._owner, broker, "publisher", [work_queue(queue)])
        self._inbox = Inbox(self._owner, self._take)
        self._delayed: dict[_Publishing, object] = {}
        self._metrics = metrics.publishing(meter, queue, lambda: self._in_flight, lambda: self.blocked)
        self._owner.start(self._outbox.link)
        self._owner.call(self._outbox.link.open)

    @property
    def ready(self) -> bool:
        """Whether a message published now goes straight to the broker (unless it is `blocked`)."""
        return self._outbox.ready

    @property
    def blocked(self) -> bool:
        """Whether the broker's memory or disk alarm holds publishers back."""
        return self._outbox.link.blocked

    @property
    def trouble(self) -> MessagingError | None:
        """Why it is not ready: BrokerUnavailable or QueueMismatch; None when it is."""
        return self._outbox.link.trouble

    def publish(self, text: str, *, delay_s: float = 0.0, message_id: str | None = None) -> "Future[None]":
        """Start to send `text` and return at once; the future ends when the broker has confirmed, or with an error.

        Errors, all in the future: BrokerUnavailable, BrokerBlocked, QueueMismatch (surely not sent), NotConfirmed
        (unknown), Unroutable, TooManyInFlight, PublisherClosed. `delay_s` holds the message back by that many seconds,
        for fault injection. `message_id` defaults to a random one. The future's callbacks run on the thread that talks
        to the broker: keep them short.
        """
        publishing = self._begin(text.encode(), message_id or self._new_id(), delay_s)
        refusal = self._admit()
        if refusal is None:
            self._inbox.put(publishing)
        else:
            self._settle(publishing, refusal)
        return publishing.future

    def wait_ready(self, timeout_s: float) -> None:
        """Return when ready; raise QueueMismatch at once, or what the trouble is after `timeout_s` seconds."""
        wait_until_ready(self, timeout_s)

    def close(self, timeout_s: float) -> int:
        """Take no more, send what is in hand, and return how many were not confirmed within `timeout_s` seconds."""
        deadline = time.monotonic() + timeout_s
        with self._state:
            self._closed = True
        self._owner.call(self._send_delayed)
        with self._state:
            self._state.wait_for(lambda: self._in_flight == 0, timeout_s)
            left = self._in_flight
        if left:
            log.warning("messages not confirmed at close", extra={"fields": {"count": left}})
            self._owner.call(self._outbox.give_up)
        self._owner.stop(max(deadline - time.monotonic(), 0.5))
        return left

    def _begin(self, body: bytes, message_id: str, delay_s: float) -> _Publishing:
        """The span starts in the caller's context, and the message carries it to the consumer (W3C trace context)."""
        span = self._tracer.start_span(
            PUBLISH_SPAN,
            kind=SpanKind.PRODUCER,
            attributes=publish_attributes(self._broker, self._queue, message_id, len(body)),
        )
        context = trace.set_span_in_context(span)
        headers: dict[str, str] = {}
        self._propagator.inject(headers, context=context)
        properties = BasicProperties(
            content_type="text/plain",
            content_encoding="utf-8",
            delivery_mode=PERSISTENT,
            headers=headers,
            message_id=message_id,
            timestamp=int(time.time()),
        )
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()  # from here on cancel() says no: a message on the wire cannot be recalled
        return _Publishing(body, properties, future, span, context, time.monotonic(), delay_s)

    def _new_id(self) -> str:
        """128 random bits as hex; not uuid4(), whose system call lets go of the interpreter's lock.

        Under load it takes milliseconds to get the lock back, and it is the caller that would wait.
        """
        return f"{self._random.getrandbits(128):032x}"

    def _admit(self) -> MessagingError | None:
        """Take one of the places in flight, or say why not."""
        with self._state:
            if self._closed:
                return PublisherClosed("the publisher is closed")
            if self._in_flight < self._max_in_flight:
                self._in_flight += 1
                return None
        trouble = self.trouble  # once: the broker's thread may mend it between two looks
        if trouble is not None:
            return again(trouble)
        return TooManyInFlight(f"{self._max_in_flight} messages wait for their confirm already")

    def _take(self, publishing: _Publishing) -> None:
        if publishing.delay_s > 0 and not self._closed:
            self._delayed[publishing] = self._owner.later(publishing.delay_s, lambda: self._send(publishing))
        else:
            self._send(publishing)

    def _send(self, publishing: _Publishing) -> None:
        self._delayed.pop(publishing, None)

        def done(error: MessagingError | None) -> None:
            self._release()
            self._settle(publishing, error)

        deadline = time.monotonic() + self._confirm_timeout_s
        self._outbox.send(Outgoing(self._queue, publishing.body, publishing.properties, deadline, done))

    def _send_delayed(self) -> None:
        for publishing, timer in list(self._delayed.items()):
            self._owner.cancel(timer)
            self._send(publishing)

    def _release(self) -> None:
        with self._state:
            self._in_flight -= 1
            if self._in_flight == 0:
                self._state.notify_all()

    def _settle(self, publishing: _Publishing, error: MessagingError | None) -> None:
        """End span, metrics and future, in this order: whoever waits for the future finds the other two done."""
        self._metrics.record(time.monotonic() - publishing.started, error, publishing.context)
        if error is not None:
            mark_failed(publishing.span, error)
        publishing.span.end()
        if error is None:
            publishing.future.set_result(None)
        else:
            publishing.future.set_exception(error)
