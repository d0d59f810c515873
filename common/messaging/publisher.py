"""Publish messages with confirms, without waiting for them."""

import logging
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Condition

from opentelemetry import propagate, trace
from opentelemetry.metrics import Meter
from opentelemetry.trace import SpanKind, Tracer
from pika import BasicProperties  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.channel import Channel  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.frame import Method  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.spec import Basic  # type: ignore[import-untyped]  # pika ships no py.typed

from common.messaging.connection import IOLoopThread, ReconnectingConnection, ThreadHandoff
from common.messaging.errors import (
    BrokerBlocked,
    BrokerUnavailable,
    MessagingError,
    NotConfirmed,
    PublisherClosed,
    TooManyInFlight,
    Unroutable,
    copy_error,
)
from common.messaging.settings import Broker
from common.messaging.telemetry import PUBLISH_SPAN, mark_failed, publish_attributes, publish_metrics
from common.messaging.topology import Queue, work_queue

log = logging.getLogger(__name__)

PERSISTENT = 2  # AMQP 0-9-1 delivery-mode: written to disk
EXPIRY_INTERVAL_S = 0.2


@dataclass(slots=True, eq=False)
class Outgoing:
    """A message to be sent to `queue`; `done` is called once, with None for confirmed or with the error."""

    queue: str
    body: bytes
    properties: BasicProperties
    deadline: float  # on time.monotonic()'s clock
    done: Callable[[MessagingError | None], None]
    sent: bool = False


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
        self._handoff = ThreadHandoff(self._thread, self._send_or_delay)
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
        `message_id` defaults to a random one. The future's callbacks run on the connection's thread: keep them short.
        """
        started = time.monotonic()
        body = text.encode()
        message_id = message_id or self._new_id()
        span = self._tracer.start_span(
            PUBLISH_SPAN,
            kind=SpanKind.PRODUCER,
            attributes=publish_attributes(self._broker, self._queue, message_id, len(body)),
        )
        context = trace.set_span_in_context(span)
        headers: dict[str, str] = {}
        propagate.inject(headers, context)
        properties = BasicProperties(
            content_type="text/plain",
            content_encoding="utf-8",
            delivery_mode=PERSISTENT,
            headers=headers,
            message_id=message_id,
            timestamp=int(time.time()),
        )
        future: Future[None] = Future()
        future.set_running_or_notify_cancel()  # from here on cancel() returns False: what is sent cannot be recalled

        def finish(error: MessagingError | None) -> None:
            """End metrics, span and future, in this order: code that waits for the future finds the others done."""
            self._metrics.record(time.monotonic() - started, error, context)
            if error is not None:
                mark_failed(span, error)
            span.end()
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        def done(error: MessagingError | None) -> None:
            self._release()
            finish(error)

        rejection = self._reserve()
        if rejection is None:
            deadline = started + delay_s + self._confirm_timeout_s
            self._handoff.put((Outgoing(self._queue, body, properties, deadline, done), delay_s))
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

    def _new_id(self) -> str:
        """Return 128 random bits as hex; not uuid4(), whose system call releases the interpreter's lock.

        Under load it takes milliseconds to get the lock back, and it is the caller that would wait.
        """
        return f"{self._random.getrandbits(128):032x}"

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

    def _release(self) -> None:
        with self._state:
            self._in_flight -= 1
            if self._in_flight == 0:
                self._state.notify_all()

    def _send_or_delay(self, item: tuple[Outgoing, float]) -> None:
        message, delay_s = item
        if delay_s > 0 and not self._closed:
            self._delayed[message] = self._thread.call_later(delay_s, lambda: self._send(message))
        else:
            self._send(message)

    def _send(self, message: Outgoing) -> None:
        self._delayed.pop(message, None)
        self._sender.send(message)

    def _send_delayed(self) -> None:
        for message, timer in list(self._delayed.items()):
            self._thread.cancel(timer)
            self._send(message)


class ConfirmedSender(ReconnectingConnection):
    """Sends with mandatory and publisher confirms; all methods run on the loop's thread.

    What was sent but not confirmed when a connection ends is sent again on the next one, first and in order, until its
    deadline. A message may therefore arrive twice, with the same message_id.
    """

    _channel: Channel | None = None
    _last_tag = 0
    _declaring = False
    _expiring = False

    def __init__(self, thread: IOLoopThread, broker: Broker, role: str, queues: Sequence[Queue]) -> None:
        super().__init__(thread, broker, role, queues)
        self._waiting: deque[Outgoing] = deque()
        self._unconfirmed: dict[int, Outgoing] = {}  # by delivery tag, ascending
        # By queue, message_id and body: basic.return has no delivery tag, and a copied message may have no id, or one
        # that another has as well.
        self._returned: Counter[tuple[str, object, bytes]] = Counter()

    def send(self, message: Outgoing) -> None:
        """Send the message now, or as soon as there is a connection."""
        self._waiting.append(message)
        self._pump()
        if not self._expiring:
            self._expiring = True
            self._thread.call_later(EXPIRY_INTERVAL_S, self._expire)

    def fail_all(self) -> None:
        """Fail whatever is not confirmed yet."""
        self._fail(lambda _message: True)

    def on_channel_open(self, channel: Channel) -> None:
        """Select confirms; the first message is sent when the broker has agreed."""
        self._last_tag = 0
        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(self._on_confirm, callback=lambda _selected: self._on_confirms_selected(channel))

    def on_channel_lost(self) -> None:
        """Put what was not confirmed in front of what waits."""
        self._channel = None
        self._waiting.extendleft(reversed(self._unconfirmed.values()))
        self._unconfirmed.clear()
        self._returned.clear()
        self._declaring = False

    def on_unblocked(self) -> None:
        """Send what waited: while the alarm is on the broker does not read, it would pile up in the socket."""
        self._pump()

    def _on_confirms_selected(self, channel: Channel) -> None:
        self._channel = channel
        self.ready = True
        self._pump()

    def _pump(self) -> None:
        channel = self._channel
        if channel is None or self.blocked:
            return
        while self._waiting and channel.is_open:
            message = self._waiting.popleft()
            self._last_tag += 1
            message.sent = True
            self._unconfirmed[self._last_tag] = message
            channel.basic_publish("", message.queue, message.body, message.properties, mandatory=True)

    def _on_confirm(self, frame: Method) -> None:
        """Basic.Ack or Basic.Nack for one delivery tag, or with multiple=True for all up to it."""
        tag: int = frame.method.delivery_tag
        tags = [tag]
        if frame.method.multiple:
            # The dict ascends, so what is confirmed together is in front.
            tags = [earlier for earlier in self._unconfirmed if earlier <= tag]
        accepted = isinstance(frame.method, Basic.Ack)
        for confirmed in tags:
            message = self._unconfirmed.pop(confirmed, None)
            if message is not None:  # None: its deadline passed before the broker's answer arrived
                message.done(self._error_of(message, accepted))

    def _error_of(self, message: Outgoing, accepted: bool) -> MessagingError | None:
        if self._returned and self._was_returned(message):
            return Unroutable(f"no queue '{message.queue}'; it is declared again for the messages that follow")
        if not accepted:
            return NotConfirmed(f"rejected by the broker, queue '{message.queue}' may be full or without a leader")
        return None

    def _was_returned(self, message: Outgoing) -> bool:
        """Whether a basic.return matches this message; each one matches one message only."""
        key = (message.queue, message.properties.message_id, message.body)
        if key not in self._returned:
            return False
        self._returned[key] -= 1
        if not self._returned[key]:
            del self._returned[key]
        return True

    def _on_return(self, _channel: Channel, method: Basic.Return, properties: BasicProperties, body: bytes) -> None:
        """Basic.Return precedes the Basic.Ack of the same message, which then means "handled", not "stored"."""
        self._returned[method.routing_key, properties.message_id, body] += 1
        if not self._declaring:
            self._declaring = True
            self.declare_again(self._on_declared_again)

    def _on_declared_again(self) -> None:
        self._declaring = False

    def _expire(self) -> None:
        now = time.monotonic()
        self._fail(lambda message: message.deadline <= now)
        self._expiring = bool(self._waiting or self._unconfirmed)
        if self._expiring:
            self._thread.call_later(EXPIRY_INTERVAL_S, self._expire)

    def _fail(self, is_due: Callable[[Outgoing], bool]) -> None:
        due = [message for message in self._waiting if is_due(message)]
        if due:
            self._waiting = deque(message for message in self._waiting if not is_due(message))
        for tag, message in list(self._unconfirmed.items()):
            if is_due(message):
                del self._unconfirmed[tag]
                due.append(message)
        for message in due:
            message.done(self._why_not_confirmed(message))

    def _why_not_confirmed(self, message: Outgoing) -> MessagingError:
        if message.sent:
            return NotConfirmed(f"sent to queue '{message.queue}' but not confirmed in time, it may have arrived")
        if self.blocked:
            return BrokerBlocked("the broker blocks publishers, its memory or disk alarm is on")
        if self.last_error is not None:
            return copy_error(self.last_error)
        return BrokerUnavailable("not sent in time")
