"""One connection with one channel that comes back whenever it is lost."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from pika.channel import Channel  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.connection import Connection  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.exceptions import ChannelClosedByBroker  # type: ignore[import-untyped]  # pika ships no py.typed

from common.messaging.backoff import Backoff
from common.messaging.broker import Broker
from common.messaging.errors import BrokerUnavailable, MessagingError, explain
from common.messaging.owner import Owner
from common.messaging.quiet import quiet_pika
from common.messaging.tolerant import TolerantConnection
from common.messaging.topology import MISMATCH_CODES, Queue, declare, mismatch

log = logging.getLogger(__name__)

# A connection that ends sooner counts as one more failure, or a broker that lets us in and throws us out at once
# would be asked several times a second for ever.
STEADY_S = 5.0

# From the handshake until the queues are declared and the listener has all it asked for. A broker that has just come
# back may let us in and not answer: heartbeats go on, so without an end to it we would wait for ever. RabbitMQ 3.10
# does so for good with a quorum queue that was declared in the last two seconds before it was killed.
SET_UP_S = 10.0


class Listener(Protocol):
    """Who uses the channel; called on the owner's thread."""

    @property
    def settled(self) -> bool:
        """Whether the broker has answered all that was asked of it in on_up()."""

    def on_up(self, channel: Channel) -> None:
        """The queues are declared and the channel is yours until on_down()."""

    def on_down(self) -> None:
        """The channel is gone, with all its delivery tags."""

    def on_blocked(self, blocked: bool) -> None:
        """The broker's alarm for memory or disk went on or off."""


class Link:
    """Connects, opens a channel, declares the queues, and does so again after any failure, with growing pauses."""

    def __init__(self, owner: Owner, broker: Broker, role: str, queues: Sequence[Queue], listener: Listener) -> None:
        self._owner = owner
        self._broker = broker
        self._role = role
        self._parameters = broker.parameters(role)
        self._queues = queues
        self._listener = listener
        self._backoff = Backoff()
        self._connection: TolerantConnection | None = None
        self._channel: Channel | None = None
        self._declared = False
        self._own_close = False
        self._timer: object | None = None
        self._setting_up: object | None = None
        self._since = time.monotonic()
        self._on_closed: Callable[[], None] | None = None
        self.up = False
        self.blocked = False
        self.trouble: MessagingError | None = BrokerUnavailable(f"{broker.address}: no connection yet")
        quiet_pika()

    def open(self) -> None:
        """Begin to connect; on_up() tells when it is done. Whatever fails, the next try is planned."""
        self._timer = None
        try:
            self._connection = TolerantConnection(
                self._parameters,
                on_open_callback=self._connected,
                on_open_error_callback=self._lost,
                on_close_callback=self._lost,
                custom_ioloop=self._owner.loop,
            )
        except Exception as error:  # without file descriptors, say: the link would stay down for ever
            self._lost(None, error)

    def drop(self, why: str) -> None:
        """Give the connection up and begin again: its state is not what it should be."""
        self._give_up(BrokerUnavailable(f"{self._broker.address}: {why}"))

    def close(self, on_closed: Callable[[], None]) -> None:
        """End for good, in AMQP's way, so that what was written last reaches the broker; then call `on_closed`."""
        self._on_closed = on_closed
        if self._timer is not None:
            self._owner.cancel(self._timer)
        connection = self._connection
        if connection is None:
            on_closed()
        elif self.blocked:
            connection.abort()  # it does not read our farewell before the alarm is over
        elif not (connection.is_closing or connection.is_closed):
            connection.close()

    def abort(self) -> None:
        """Hasten a close() that the broker does not answer."""
        if self._connection is not None:
            self._connection.abort()

    def declare_again(self, on_done: Callable[[], None]) -> None:
        """Put back queues that someone deleted, without a new connection."""
        if self._channel is not None and self._channel.is_open:
            declare(self._channel, self._queues, on_done)

    def _connected(self, connection: Connection) -> None:
        connection.add_on_connection_blocked_callback(lambda *_: self._set_blocked(True))
        connection.add_on_connection_unblocked_callback(lambda *_: self._set_blocked(False))
        connection.channel(on_open_callback=self._channel_open)
        self._setting_up = self._owner.later(SET_UP_S, self._check_set_up)

    def _check_set_up(self) -> None:
        """Give a connection up that is of no use by now; without a farewell, which may not be answered either."""
        self._setting_up = None
        if self._listener.settled or self._connection is None:
            return
        names = ", ".join(f"'{queue.name}'" for queue in self._queues)
        silent = f"no answer about {names} within {SET_UP_S:g} s"
        remedy = "if that lasts, delete the queue that does not answer (rabbitmqctl delete_queue)"
        self._down(BrokerUnavailable(f"{self._broker.address}: {silent}; {remedy}"))
        self._own_close = True
        self._connection.abort()

    def _channel_open(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._channel_closed)
        self._channel = channel
        self._declared = False
        declare(channel, self._queues, self._ready)

    def _ready(self) -> None:
        away_s = time.monotonic() - self._since
        self._declared = self.up = True
        self.trouble = None
        self._since = time.monotonic()
        log.info("broker connected", extra={"fields": self._fields(away_s=round(away_s, 3))})
        self._listener.on_up(self._channel)

    def _channel_closed(self, channel: Channel, reason: Exception) -> None:
        if channel is not self._channel:
            return  # given up before, for a reason that is told already
        # Once declared, the same codes mean something else: 406 is also an acknowledgement that came too late.
        declaring = not self._declared
        if declaring and isinstance(reason, ChannelClosedByBroker) and reason.reply_code in MISMATCH_CODES:
            self._give_up(mismatch(reason.reply_text))
        else:
            self._give_up(self._away(reason))

    def _give_up(self, trouble: MessagingError) -> None:
        self._down(trouble)
        connection = self._connection
        if connection is not None and not (connection.is_closing or connection.is_closed):
            self._own_close = True
            connection.close()

    def _lost(self, _connection: Connection | None, reason: Exception) -> None:
        """The connection has ended, or never came to be; whatever the reason, the next one is planned here."""
        if not self._own_close and self._on_closed is None:
            self._down(self._away(reason))
        self._own_close = False
        self._connection = None
        if self._setting_up is not None:
            self._owner.cancel(self._setting_up)
            self._setting_up = None
        if self._on_closed is not None:
            self._down(BrokerUnavailable(f"{self._broker.address}: closed"))
            self._on_closed()
        elif self._timer is None:
            self._timer = self._owner.later(self._backoff.next(), self.open)

    def _down(self, trouble: MessagingError) -> None:
        """Tell the listener once, and the log when the reason changes: a long outage is not worth a line per try."""
        news = self.up or str(trouble) != str(self.trouble)
        was_up, self.up, self.blocked, self._channel = self.up, False, False, None
        self.trouble = trouble
        if was_up:
            if time.monotonic() - self._since >= STEADY_S:
                self._backoff.reset()
            self._since = time.monotonic()
            self._listener.on_down()
        if news and self._on_closed is None:
            log.warning("broker away", extra={"fields": self._fields(reason=str(trouble))})

    def _set_blocked(self, blocked: bool) -> None:
        if blocked == self.blocked:
            return
        self.blocked = blocked
        if blocked:
            log.warning("broker blocks publishers", extra={"fields": self._fields()})
        else:
            log.info("broker takes messages again", extra={"fields": self._fields()})
        self._listener.on_blocked(blocked)

    def _away(self, reason: Exception) -> BrokerUnavailable:
        return BrokerUnavailable(f"{self._broker.address}: {explain(reason, self._broker.user)}")

    def _fields(self, **more: object) -> dict[str, object]:
        return {"broker": self._broker.address, "role": self._role, **more}
