"""The thread that owns pika's objects, and connections on it: reopened whenever lost, sending with confirms."""

import logging
import math
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import pika  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.adapters.select_connection import IOLoop  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.adapters.utils.selector_ioloop_adapter import (  # type: ignore[import-untyped]  # pika ships no py.typed
    SelectorIOServicesAdapter,
)
from pika.channel import Channel  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.connection import Connection  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.exceptions import ChannelClosedByBroker  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.frame import Method  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.spec import Basic  # type: ignore[import-untyped]  # pika ships no py.typed

from common.core.pacing import Backoff
from common.messaging.errors import (
    CLOSED_BY_BROKER,
    MISMATCH_CODES,
    BrokerBlocked,
    BrokerUnavailable,
    MessagingError,
    NotConfirmed,
    Unroutable,
    copy_error,
    explain,
    mismatch,
)
from common.messaging.tolerant import TolerantConnection
from common.messaging.topology import Broker, Queue

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
HANDSHAKE_TIMEOUT_S = 10.0
# Long: reconnecting does not help while the alarm is on, the next connection is blocked as well.
BLOCKED_TIMEOUT_S = 300.0
ABORT_S = 0.5
EXPIRY_INTERVAL_S = 0.2

# A connection that ends sooner counts as one more failure; otherwise a broker that accepts connections and closes them
# at once would be asked several times a second.
STABLE_S = 5.0

# From the handshake until the queues are declared and the subclass is set up. A restarted broker may accept the
# connection and never answer while heartbeats continue; hence our own timeout. RabbitMQ 3.10 does so permanently about
# a quorum queue that was declared in the last two seconds before it was killed.
SET_UP_S = 10.0

# These log each refused connection up to seven times, partly with a traceback, and each closed channel.
_PIKA_CONNECTION_LOGGERS = ("pika.adapters", "pika.connection", "pika.channel")

Work = Callable[[], None]


def connection_parameters(broker: Broker, role: str) -> pika.ConnectionParameters:
    """Return pika's parameters for one attempt to connect; `role` becomes part of the connection's name."""
    return pika.ConnectionParameters(
        host=broker.host,
        port=broker.port,
        virtual_host=broker.vhost,
        credentials=pika.PlainCredentials(broker.user, broker.password),
        heartbeat=broker.heartbeat_s,
        connection_attempts=1,
        retry_delay=0,
        socket_timeout=CONNECT_TIMEOUT_S,
        stack_timeout=HANDSHAKE_TIMEOUT_S,
        blocked_connection_timeout=BLOCKED_TIMEOUT_S,
        client_properties={"connection_name": f"{broker.connection_name} {role}".strip()},
    )


class IOLoopThread:
    """A daemon thread that runs pika's event loop. pika is not thread-safe: only this thread may use its objects."""

    def __init__(self, name: str) -> None:
        self.loop = IOLoop()
        self._connections: list[ReconnectingConnection] = []
        self._calls: deque[Work] = deque()
        self._woken = False
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def register(self, connection: "ReconnectingConnection") -> None:
        """Have start() open the connection and stop() close it."""
        self._connections.append(connection)

    def start(self) -> None:
        """Run the loop and open the registered connections."""
        self._thread.start()
        for connection in self._connections:
            self.call_soon_threadsafe(connection.open)

    def call_soon_threadsafe(self, work: Work) -> None:
        """Run `work` on the thread, in the order of the calls; from any thread. Does nothing after stop().

        Many calls share one wake-up: it is a system call and a thread switch, which would cost more than publishing.
        """
        self._calls.append(work)
        if not self._woken:
            self._wake()

    def call_later(self, delay_s: float, work: Work) -> object:
        """Run `work` after `delay_s` seconds; only from this thread. Return a handle for cancel()."""
        return self.loop.call_later(delay_s, partial(self._guard, work))

    def cancel(self, handle: object) -> None:
        """Cancel a call_later(); only from this thread."""
        self.loop.remove_timeout(handle)

    def stop(self, timeout_s: float) -> None:
        """Close the connections, then end the thread; after `timeout_s` seconds without waiting for the broker."""
        self.call_soon_threadsafe(self._close_connections)
        self._thread.join(timeout_s)
        for last_resort in (self._abort_connections, self._end):
            if self._thread.is_alive():
                self.call_soon_threadsafe(last_resort)
                self._thread.join(ABORT_S)

    def _wake(self) -> None:
        self._woken = True
        self.loop.add_callback_threadsafe(self._run_calls)

    def _run_calls(self) -> None:
        # Cleared before looking: a call appended after the look finds it cleared and wakes the thread again.
        self._woken = False
        try:
            for _ in range(len(self._calls)):
                self._guard(self._calls.popleft())
        finally:
            if self._calls and not self._woken:
                self._wake()

    def _close_connections(self) -> None:
        for connection in self._connections:
            connection.close(partial(self._closed, connection))
        self._closed()

    def _closed(self, closed: "ReconnectingConnection | None" = None) -> None:
        self._connections = [connection for connection in self._connections if connection is not closed]
        if not self._connections:
            self._end()

    def _abort_connections(self) -> None:
        for connection in self._connections:
            connection.abort()

    def _end(self) -> None:
        self._ended = True
        self.loop.stop()

    def _guard(self, work: Work) -> None:
        """An exception, ours or pika's, must not end the thread: nothing would be sent or received any more."""
        try:
            work()
        except Exception:
            log.exception("messaging callback failed", extra={"fields": {"thread": self._thread.name}})
            for connection in self._connections:
                connection.reconnect("internal error")

    def _run(self) -> None:
        while not self._ended:
            self._guard(self.loop.start)
        self.loop.close()


class _InterruptibleIO(SelectorIOServicesAdapter):  # type: ignore[misc]  # pika ships no py.typed
    """pika's I/O services for one connection, which keep its socket: pika has no public way to end a connection whose
    broker does not read or answer, but it does notice the end of the stream.
    """

    _socket: socket.socket | None = None
    _attempt: Any = None  # to connect the socket; None once the stream is started
    _ended = False

    def connect_socket(self, sock: socket.socket, *more: Any, **named: Any) -> Any:
        """Begin to connect a socket; pika's AbstractIOServices."""
        self._socket = sock
        self._attempt = attempt = super().connect_socket(sock, *more, **named)
        if self._ended:  # while the host's name was looked up
            self.end_stream()
        return attempt

    def create_streaming_connection(self, *more: Any, **named: Any) -> Any:
        """Start the stream on the socket, which is connected; pika's AbstractIOServices."""
        self._attempt = None
        return super().create_streaming_connection(*more, **named)

    def end_stream(self) -> bool:
        """End the stream, which pika then reports as lost. Return False if there is none yet: nothing is reported."""
        self._ended = True
        if self._socket is None:
            return False
        if self._attempt is not None:
            self._attempt.cancel()
            self._socket.close()
            return False
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        return True


class ReconnectingConnection:
    """Connects, opens a channel, declares the queues, and does so again after any failure, with growing pauses.

    A subclass uses the channel from on_channel_open() to on_channel_lost(). All methods run on the loop's thread.
    """

    def __init__(self, thread: IOLoopThread, broker: Broker, role: str, queues: Sequence[Queue]) -> None:
        self._thread = thread
        self._broker = broker
        self._role = role
        self._queues = queues
        self._backoff = Backoff()
        self._io: _InterruptibleIO | None = None
        self._connection: Connection | None = None
        self._declared_on: Channel | None = None
        self._undeclared: set[str] = set()  # the queues that the broker has been asked to declare
        self._own_close = False
        self._open_timer: object | None = None
        self._set_up_timer: object | None = None
        self._since = time.monotonic()
        self._logged = ""  # the reason of the last line about the present outage
        self._ends_soon = False  # the last connection ended soon after it was established
        self._on_closed: Work | None = None
        self.ready = False  # the subclass's: whether the broker has answered all that was asked in on_channel_open()
        self.depths: dict[str, int] = {}  # ready messages per queue, as of the last declaration
        self.blocked = False  # the broker's memory or disk alarm is on
        self.last_error: MessagingError | None = self._unavailable("no connection yet")
        logging.getLogger("pika").setLevel(logging.WARNING)
        for name in _PIKA_CONNECTION_LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        thread.register(self)

    def on_channel_open(self, channel: Channel) -> None:
        """Use the channel; its queues are declared."""
        raise NotImplementedError

    def on_channel_lost(self) -> None:
        """Forget the channel and its delivery tags."""
        raise NotImplementedError

    def send_waiting(self) -> None:
        """Send what waited for the end of the broker's alarm."""

    def set_up_done(self, *, ready: bool = True) -> None:
        """End the time SET_UP_S: the broker has answered all that was asked in on_channel_open()."""
        self.ready = ready
        if self._set_up_timer is not None:
            self._thread.cancel(self._set_up_timer)
            self._set_up_timer = None

    def open(self) -> None:
        """Begin to connect. Whatever fails, the next attempt is scheduled."""
        self._open_timer = None
        try:
            self._io = _InterruptibleIO(self._thread.loop)
            self._connection = TolerantConnection(
                connection_parameters(self._broker, self._role),
                on_open_callback=self._connected,
                on_open_error_callback=self._lost,
                on_close_callback=self._lost,
                custom_ioloop=self._io,
            )
        except Exception as error:  # without file descriptors, for example: the connection would stay down forever
            self._lost(None, error)

    def reconnect(self, why: str) -> None:
        """Close the connection and open another one, because its state cannot be trusted."""
        self._close_and_retry(self._unavailable(why))

    def close(self, on_closed: Work) -> None:
        """Close permanently, so that what was written last reaches the broker; then call `on_closed`."""
        self._on_closed = on_closed
        if self._open_timer is not None:
            self._thread.cancel(self._open_timer)
        connection = self._connection
        if connection is None:
            on_closed()
        elif connection.is_open and not self.blocked:
            connection.close()
        elif not (connection.is_closing or self.abort()):  # a blocked broker does not read; a handshake has no caller
            on_closed()  # no stream yet: the attempt ends with the loop

    def abort(self) -> bool:
        """End the stream without waiting for the broker. Return False if there is none."""
        return self._io is not None and self._io.end_stream()

    def declare_again(self) -> None:
        """Declare the queues without a new connection: creates those that were deleted, and updates `depths`."""
        channel = self._declared_on
        if self._is_up and not self._undeclared and channel is not None and channel.is_open:
            self._declare(channel)

    @property
    def _is_up(self) -> bool:
        return self.last_error is None

    def _connected(self, connection: Connection) -> None:
        connection.add_on_connection_blocked_callback(lambda *_: self._set_blocked(True))
        connection.add_on_connection_unblocked_callback(lambda *_: self._set_blocked(False))
        connection.channel(on_open_callback=self._channel_open)
        self._set_up_timer = self._thread.call_later(SET_UP_S, self._check_set_up)

    def _check_set_up(self) -> None:
        """Abort a connection that is not usable by now; a graceful close may not be answered either."""
        self._set_up_timer = None
        names = ", ".join(f"'{queue.name}'" for queue in self._queues)
        remedy = "if that lasts, delete the queue that does not answer (rabbitmqctl delete_queue)"
        self._down(self._unavailable(f"no answer about {names} within {SET_UP_S:g} s; {remedy}"))
        self._own_close = True
        self.abort()

    def _channel_open(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._channel_closed)
        self._declared_on = channel
        self._declare(channel)

    def _declare(self, channel: Channel) -> None:
        """Declare the queues, which pika does one by one; after a mismatch the broker closes the channel instead."""
        self._undeclared = {queue.name for queue in self._queues}
        for queue in self._queues:
            declared = partial(self._queue_declared, channel)
            channel.queue_declare(queue.name, durable=True, arguments=dict(queue.arguments), callback=declared)

    def _queue_declared(self, channel: Channel, frame: Method) -> None:
        queue, ready = frame.method.queue, frame.method.message_count
        self.depths = {**self.depths, queue: ready}  # replaced, not changed: other threads read it
        self._undeclared.discard(queue)
        if self._undeclared or self._is_up:
            return
        now = time.monotonic()
        outage_s, self._since = now - self._since, now
        self.last_error = None
        if self._ends_soon:
            self._thread.call_later(STABLE_S, partial(self._log_connected, outage_s, now))
        else:
            self._log_connected(outage_s, now)
        self.on_channel_open(channel)

    def _log_connected(self, outage_s: float, since: float) -> None:
        if self._is_up and self._since == since:
            self._ends_soon, self._logged = False, ""
            log.info("broker connected", extra={"fields": self._fields(outage_s=round(outage_s, 3))})

    def _channel_closed(self, channel: Channel, reason: Exception) -> None:
        if channel is not self._declared_on:
            return  # closed by us, for a reason that is logged already
        # Once declared, the same codes mean something else: 406 is also an acknowledgement that came too late.
        error: MessagingError = self._unavailable(explain(reason, self._broker.user))
        if not self._is_up and isinstance(reason, ChannelClosedByBroker) and reason.reply_code in MISMATCH_CODES:
            error = mismatch(reason.reply_text)
        self._close_and_retry(error)

    def _close_and_retry(self, error: MessagingError) -> None:
        self._down(error)
        connection = self._connection
        if connection is not None and not (connection.is_closing or connection.is_closed):
            self._own_close = True
            connection.close()

    def _lost(self, _connection: Connection | None, reason: Exception) -> None:
        """The connection has ended or was not established; whatever the reason, the next attempt is scheduled here."""
        if not self._own_close and self._on_closed is None:
            self._down(self._unavailable(explain(reason, self._broker.user)))
        self._own_close = False
        self._connection = self._io = None
        self.set_up_done(ready=False)
        if self._on_closed is not None:
            self._down(self._unavailable("closed"))
            self._on_closed()
        elif self._open_timer is None:
            self._open_timer = self._thread.call_later(self._backoff.next(), self.open)

    def _down(self, error: MessagingError) -> None:
        """Notify the subclass once, and log when the reason changes: not one line per attempt in a long outage.

        A user without a permission can connect, and is disconnected when it is needed: that is one outage as well.
        """
        before, self.last_error, reason = self.last_error, error, str(error)
        self.ready = self.blocked = False
        self._undeclared, self._declared_on = set(), None
        self.depths = {}
        if before is None:
            now = time.monotonic()
            soon = now - self._since < STABLE_S
            self._ends_soon = soon and CLOSED_BY_BROKER in reason  # not a broker that is killed again and again
            if not soon:
                self._backoff.reset()
            self._since = now
            self.on_channel_lost()
        if reason != self._logged and self._on_closed is None:
            self._logged = reason
            log.warning("broker unavailable", extra={"fields": self._fields(reason=reason)})

    def _set_blocked(self, blocked: bool) -> None:
        if blocked == self.blocked:
            return
        self.blocked = blocked
        if blocked:
            log.warning("broker blocked", extra={"fields": self._fields()})
        else:
            log.info("broker unblocked", extra={"fields": self._fields()})
            self.send_waiting()

    def _unavailable(self, why: str) -> BrokerUnavailable:
        return BrokerUnavailable(f"{self._broker.address}: {why}")

    def _fields(self, **more: object) -> dict[str, object]:
        return {"broker": self._broker.address, "role": self._role, **more}


@dataclass(slots=True, eq=False)
class Outgoing:
    """A message to be sent to `queue`; `done` is called once, with None for confirmed or with the error."""

    queue: str
    body: bytes
    properties: pika.BasicProperties
    deadline: float  # on time.monotonic()'s clock
    done: Callable[[MessagingError | None], None]
    sent: bool = False


class ConfirmedSender(ReconnectingConnection):
    """Sends with mandatory and publisher confirms; all methods run on the loop's thread.

    What was sent but not confirmed when a connection ends is sent again on the next one, first and in order, until its
    deadline. A message may therefore arrive twice, with the same message_id.
    """

    _channel: Channel | None = None
    _last_tag = 0
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
        self.send_waiting()
        if not self._expiring:
            self._expiring = True
            self._thread.call_later(EXPIRY_INTERVAL_S, self._expire)

    def fail_all(self) -> None:
        """Fail whatever is not confirmed yet."""
        self._fail(math.inf)

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

    def send_waiting(self) -> None:
        """Send what waits, unless the alarm is on: the broker does not read then, it would pile up in the socket."""
        channel = self._channel
        if channel is None or self.blocked:
            return
        while self._waiting and channel.is_open:
            message = self._waiting.popleft()
            self._last_tag += 1
            message.sent = True
            self._unconfirmed[self._last_tag] = message
            channel.basic_publish("", message.queue, message.body, message.properties, mandatory=True)

    def _on_confirms_selected(self, channel: Channel) -> None:
        self._channel = channel
        self.set_up_done()
        self.send_waiting()

    def _on_confirm(self, frame: Method) -> None:
        """Basic.Ack or Basic.Nack for one delivery tag, or with multiple=True for all up to it."""
        tag: int = frame.method.delivery_tag
        tags = [earlier for earlier in self._unconfirmed if earlier <= tag] if frame.method.multiple else [tag]
        for confirmed in tags:
            message = self._unconfirmed.pop(confirmed, None)
            if message is not None:  # None: its deadline passed before the broker's answer arrived
                message.done(self._error_of(message, isinstance(frame.method, Basic.Ack)))

    def _error_of(self, message: Outgoing, accepted: bool) -> MessagingError | None:
        key = (message.queue, message.properties.message_id, message.body)
        if key in self._returned:  # each basic.return is for one message only
            self._returned[key] -= 1
            if not self._returned[key]:
                del self._returned[key]
            return Unroutable(f"no queue '{message.queue}'; it is declared again for the messages that follow")
        if not accepted:
            return NotConfirmed(f"rejected by the broker, queue '{message.queue}' may be full or without a leader")
        return None

    def _on_return(
        self, _channel: Channel, method: Basic.Return, properties: pika.BasicProperties, body: bytes
    ) -> None:
        """Basic.Return precedes the Basic.Ack of the same message, which then means "handled", not "stored"."""
        self._returned[method.routing_key, properties.message_id, body] += 1
        self.declare_again()

    def _expire(self) -> None:
        self._fail(time.monotonic())
        self._expiring = bool(self._waiting or self._unconfirmed)
        if self._expiring:
            self._thread.call_later(EXPIRY_INTERVAL_S, self._expire)

    def _fail(self, now: float) -> None:
        """Fail the messages whose deadline is not after `now`."""
        due = [message for message in self._waiting if message.deadline <= now]
        if due:
            self._waiting = deque(message for message in self._waiting if message.deadline > now)
        for tag, message in list(self._unconfirmed.items()):
            if message.deadline <= now:
                due.append(self._unconfirmed.pop(tag))
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
