"""The thread that owns pika's objects, and connections on it that are reopened whenever they are lost."""

import logging
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar

from pika.adapters.select_connection import IOLoop  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.adapters.utils.selector_ioloop_adapter import (  # type: ignore[import-untyped]  # pika ships no py.typed
    SelectorIOServicesAdapter,
)
from pika.channel import Channel  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.connection import Connection  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.exceptions import ChannelClosedByBroker  # type: ignore[import-untyped]  # pika ships no py.typed

from common.core.pacing import Backoff
from common.messaging.errors import BrokerUnavailable, MessagingError, explain
from common.messaging.settings import Broker
from common.messaging.tolerant import TolerantConnection
from common.messaging.topology import MISMATCH_CODES, Queue, declare, mismatch

log = logging.getLogger(__name__)

ABORT_S = 0.5

# A connection that ends sooner counts as one more failure; otherwise a broker that accepts connections and closes them
# at once would be asked several times a second.
STABLE_S = 5.0

# From the handshake until the queues are declared and the subclass is set up. A restarted broker may accept the
# connection and never answer while heartbeats continue; hence our own timeout. RabbitMQ 3.10 does so permanently about
# a quorum queue that was declared in the last two seconds before it was killed.
SET_UP_S = 10.0

# These log each refused connection up to seven times, partly with a traceback, and each closed channel.
_PIKA_CONNECTION_LOGGERS = ("pika.adapters", "pika.connection", "pika.channel")

T = TypeVar("T")
Work = Callable[[], None]


class IOLoopThread:
    """A daemon thread that runs pika's event loop. pika is not thread-safe: only this thread may use its objects."""

    def __init__(self, name: str) -> None:
        self.loop = IOLoop()
        self._connections: list[ReconnectingConnection] = []
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
        """Run `work` on the thread; callable from any thread. Does nothing after stop()."""
        self.loop.add_callback_threadsafe(partial(self._guard, work))

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

    def _close_connections(self) -> None:
        remaining = set(self._connections)

        def closed(connection: "ReconnectingConnection") -> None:
            remaining.discard(connection)
            if not remaining:
                self._end()

        for connection in self._connections:
            connection.close(partial(closed, connection))
        if not remaining:
            self._end()

    def _abort_connections(self) -> None:
        for connection in self._connections:
            connection.abort()

    def _end(self) -> None:
        self._ended = True
        self.loop.stop()

    def _guard(self, work: Work) -> None:
        """An exception in a callback must not end the thread: nothing would be sent or received any more."""
        try:
            work()
        except Exception:
            log.exception("messaging callback failed", extra={"fields": {"thread": self._thread.name}})
            for connection in self._connections:
                connection.reconnect("internal error")

    def _run(self) -> None:
        while not self._ended:
            try:
                self.loop.start()
            except Exception:
                log.exception("messaging loop failed", extra={"fields": {"thread": self._thread.name}})
        self.loop.close()


class ThreadHandoff(Generic[T]):
    """Passes items from any thread to `receive` on the loop's thread, in order, with one wake-up per batch.

    A wake-up is a system call and a thread switch: one per message would cost more than the publishing itself.
    """

    def __init__(self, thread: IOLoopThread, receive: Callable[[T], None]) -> None:
        self._thread = thread
        self._receive = receive
        self._items: deque[T] = deque()
        self._woken = False

    def put(self, item: T) -> None:
        """Append an item and wake the thread, unless a wake-up is already pending."""
        self._items.append(item)
        if not self._woken:
            self._woken = True
            self._thread.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        # Cleared before looking: an item appended after the look finds it cleared and wakes the thread again.
        self._woken = False
        try:
            for _ in range(len(self._items)):
                self._receive(self._items.popleft())
        finally:
            if self._items and not self._woken:  # one item failed; those behind it must not wait for the next put()
                self._woken = True
                self._thread.call_soon_threadsafe(self._drain)


class _InterruptibleIO(SelectorIOServicesAdapter):  # type: ignore[misc]  # pika ships no py.typed
    """pika's I/O services for one connection, which keep its socket: pika has no public way to end a connection whose
    broker does not read or answer, but it does notice the end of the stream.
    """

    _socket: socket.socket | None = None
    _attempt: tuple[Any, socket.socket] | None = None

    def connect_socket(self, sock: socket.socket, resolved_addr: Any, on_done: Any) -> Any:
        """Begin to connect a socket; pika's AbstractIOServices."""
        reference = super().connect_socket(sock, resolved_addr, on_done)
        self._attempt = reference, sock
        return reference

    def create_streaming_connection(
        self,
        protocol_factory: Any,
        sock: socket.socket,
        on_done: Any,
        ssl_context: Any = None,
        server_hostname: Any = None,
    ) -> Any:
        """Start the stream on a socket that is connected; pika's AbstractIOServices."""
        self._socket = sock
        return super().create_streaming_connection(protocol_factory, sock, on_done, ssl_context, server_hostname)

    def end_stream(self) -> bool:
        """End the stream, which pika then reports as lost. Return False if there is none yet: nothing is reported."""
        if self._socket is None:
            if self._attempt is not None:
                reference, connecting = self._attempt
                reference.cancel()
                connecting.close()
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
        self._is_up = False
        self._own_close = False
        self._open_timer: object | None = None
        self._set_up_timer: object | None = None
        self._since = time.monotonic()
        self._on_closed: Work | None = None
        self.ready = False  # the subclass's: whether the broker has answered all that was asked in on_channel_open()
        self.depths: dict[str, int] = {}  # ready messages per queue, as of the last declaration
        self.blocked = False  # the broker's memory or disk alarm is on
        self.last_error: MessagingError | None = BrokerUnavailable(f"{broker.address}: no connection yet")
        logging.getLogger("pika").setLevel(logging.WARNING)
        for name in _PIKA_CONNECTION_LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        thread.register(self)

    @property
    def is_set_up(self) -> bool:
        """Whether nothing more is expected from the broker; while it is not so, SET_UP_S runs."""
        return self.ready

    def on_channel_open(self, channel: Channel) -> None:
        """Use the channel; its queues are declared."""
        raise NotImplementedError

    def on_channel_lost(self) -> None:
        """Forget the channel and its delivery tags."""
        raise NotImplementedError

    def on_unblocked(self) -> None:
        """React to the end of the broker's alarm."""

    def open(self) -> None:
        """Begin to connect. Whatever fails, the next attempt is scheduled."""
        self._open_timer = None
        try:
            self._io = _InterruptibleIO(self._thread.loop)
            self._connection = TolerantConnection(
                self._broker.parameters(self._role),
                on_open_callback=self._connected,
                on_open_error_callback=self._lost,
                on_close_callback=self._lost,
                custom_ioloop=self._io,
            )
        except Exception as error:  # without file descriptors, for example: the connection would stay down forever
            self._lost(None, error)

    def reconnect(self, why: str) -> None:
        """Close the connection and open another one, because its state cannot be trusted."""
        self._close_and_retry(BrokerUnavailable(f"{self._broker.address}: {why}"))

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
        elif not (connection.is_closing or self.abort()):  # a blocked broker does not read; in a handshake nobody waits
            on_closed()  # no stream yet: the attempt ends with the loop

    def abort(self) -> bool:
        """End the stream without waiting for the broker. Return False if there is none."""
        return self._io is not None and self._io.end_stream()

    def declare_again(self, on_done: Work) -> None:
        """Declare the queues without a new connection: creates those that someone deleted, and updates `depths`."""
        if self._is_up and self._declared_on is not None and self._declared_on.is_open:
            declare(self._declared_on, self._queues, self._note_depth, on_done)

    def _connected(self, connection: Connection) -> None:
        connection.add_on_connection_blocked_callback(lambda *_: self._set_blocked(True))
        connection.add_on_connection_unblocked_callback(lambda *_: self._set_blocked(False))
        connection.channel(on_open_callback=self._channel_open)
        self._set_up_timer = self._thread.call_later(SET_UP_S, self._check_set_up)

    def _check_set_up(self) -> None:
        """Abort a connection that is not usable by now; a graceful close may not be answered either."""
        self._set_up_timer = None
        if self.is_set_up or self._connection is None:
            return
        names = ", ".join(f"'{queue.name}'" for queue in self._queues)
        silent = f"no answer about {names} within {SET_UP_S:g} s"
        remedy = "if that lasts, delete the queue that does not answer (rabbitmqctl delete_queue)"
        self._down(BrokerUnavailable(f"{self._broker.address}: {silent}; {remedy}"))
        self._own_close = True
        self.abort()

    def _channel_open(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._channel_closed)
        self._declared_on = channel
        declare(channel, self._queues, self._note_depth, self._declared)

    def _note_depth(self, queue: str, ready: int) -> None:
        self.depths = {**self.depths, queue: ready}  # replaced, not changed: other threads read it

    def _declared(self) -> None:
        outage_s = time.monotonic() - self._since
        self._is_up = True
        self.last_error = None
        self._since = time.monotonic()
        log.info("broker connected", extra={"fields": self._fields(outage_s=round(outage_s, 3))})
        self.on_channel_open(self._declared_on)

    def _channel_closed(self, channel: Channel, reason: Exception) -> None:
        if channel is not self._declared_on:
            return  # closed by us, for a reason that is logged already
        # Once declared, the same codes mean something else: 406 is also an acknowledgement that came too late.
        declaring = not self._is_up
        if declaring and isinstance(reason, ChannelClosedByBroker) and reason.reply_code in MISMATCH_CODES:
            self._close_and_retry(mismatch(reason.reply_text))
        else:
            self._close_and_retry(self._unavailable(reason))

    def _close_and_retry(self, error: MessagingError) -> None:
        self._down(error)
        connection = self._connection
        if connection is not None and not (connection.is_closing or connection.is_closed):
            self._own_close = True
            connection.close()

    def _lost(self, _connection: Connection | None, reason: Exception) -> None:
        """The connection has ended or was not established; whatever the reason, the next attempt is scheduled here."""
        if not self._own_close and self._on_closed is None:
            self._down(self._unavailable(reason))
        self._own_close = False
        self._connection = self._io = None
        if self._set_up_timer is not None:
            self._thread.cancel(self._set_up_timer)
            self._set_up_timer = None
        if self._on_closed is not None:
            self._down(BrokerUnavailable(f"{self._broker.address}: closed"))
            self._on_closed()
        elif self._open_timer is None:
            self._open_timer = self._thread.call_later(self._backoff.next(), self.open)

    def _down(self, error: MessagingError) -> None:
        """Notify the subclass once, and log when the reason changes: not one line per attempt in a long outage."""
        changed = self._is_up or str(error) != str(self.last_error)
        was_up, self._is_up, self.ready, self.blocked, self._declared_on = self._is_up, False, False, False, None
        self.depths = {}
        self.last_error = error
        if was_up:
            if time.monotonic() - self._since >= STABLE_S:
                self._backoff.reset()
            self._since = time.monotonic()
            self.on_channel_lost()
        if changed and self._on_closed is None:
            log.warning("broker unavailable", extra={"fields": self._fields(reason=str(error))})

    def _set_blocked(self, blocked: bool) -> None:
        if blocked == self.blocked:
            return
        self.blocked = blocked
        if blocked:
            log.warning("broker blocked", extra={"fields": self._fields()})
        else:
            log.info("broker unblocked", extra={"fields": self._fields()})
            self.on_unblocked()

    def _unavailable(self, reason: Exception) -> BrokerUnavailable:
        return BrokerUnavailable(f"{self._broker.address}: {explain(reason, self._broker.user)}")

    def _fields(self, **more: object) -> dict[str, object]:
        return {"broker": self._broker.address, "role": self._role, **more}
