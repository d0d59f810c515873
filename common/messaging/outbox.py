"""Confirmed sending, many messages on the way at a time, re-sent over a new connection."""

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pika import BasicProperties  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.channel import Channel  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.frame import Method  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.spec import Basic  # type: ignore[import-untyped]  # pika ships no py.typed

from common.messaging.broker import Broker
from common.messaging.errors import BrokerBlocked, BrokerUnavailable, MessagingError, NotConfirmed, Unroutable, again
from common.messaging.link import Link
from common.messaging.owner import Owner
from common.messaging.topology import Queue

EXPIRY_INTERVAL_S = 0.2


@dataclass(slots=True, eq=False)
class Outgoing:
    """A message on its way to `queue`; `done` is called once, with None for confirmed or with why not."""

    queue: str
    body: bytes
    properties: BasicProperties
    deadline: float  # on time.monotonic()'s clock
    done: Callable[[MessagingError | None], None]
    sent: bool = False


class Outbox:
    """Sends with mandatory and publisher confirms over a link of its own; all methods on the owner's thread.

    What was sent but not confirmed when a connection ends goes out again on the next one, first and in order, until
    its deadline. So a message may arrive twice, and its message_id tells that it did.
    """

    def __init__(self, owner: Owner, broker: Broker, role: str, queues: Sequence[Queue]) -> None:
        self._owner = owner
        self.link = Link(owner, broker, role, queues, self)
        self._channel: Channel | None = None
        self._waiting: deque[Outgoing] = deque()
        self._unconfirmed: dict[int, Outgoing] = {}  # by delivery tag, ascending
        self._last_tag = 0
        # By queue, message_id and body: a return bears no delivery tag, and a message that is passed on may have no
        # id, or one that another has as well.
        self._returned: Counter[tuple[str, object, bytes]] = Counter()
        self._declaring = False
        self._expiring = False
        self.ready = False

    @property
    def settled(self) -> bool:
        """Whether the broker has agreed to confirm."""
        return self.ready

    def send(self, message: Outgoing) -> None:
        """Hand the message to the broker now, or as soon as there is one."""
        self._waiting.append(message)
        self._pump()
        if not self._expiring:
            self._expiring = True
            self._owner.later(EXPIRY_INTERVAL_S, self._expire)

    def give_up(self) -> None:
        """Fail whatever is not confirmed yet."""
        self._fail(lambda _message: True)

    def on_up(self, channel: Channel) -> None:
        """Switch confirms on; the first message goes out when the broker has agreed."""
        self._last_tag = 0
        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(self._on_confirm, callback=lambda _selected: self._confirming(channel))

    def on_down(self) -> None:
        """Put what was not confirmed in front of what waits."""
        self.ready = False
        self._channel = None
        self._waiting.extendleft(reversed(self._unconfirmed.values()))
        self._unconfirmed.clear()
        self._returned.clear()
        self._declaring = False

    def on_blocked(self, blocked: bool) -> None:
        """Hold messages back while the alarm is on: the broker no longer reads, they would pile up in the socket."""
        if not blocked:
            self._pump()

    def _confirming(self, channel: Channel) -> None:
        self._channel = channel
        self.ready = True
        self._pump()

    def _pump(self) -> None:
        channel = self._channel
        if channel is None or self.link.blocked:
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
            # The dict ascends, so what is confirmed together stands in front.
            tags = [earlier for earlier in self._unconfirmed if earlier <= tag]
        accepted = isinstance(frame.method, Basic.Ack)
        for confirmed in tags:
            message = self._unconfirmed.pop(confirmed, None)
            if message is not None:  # None: its deadline passed before the broker's answer came
                message.done(self._verdict(message, accepted))

    def _verdict(self, message: Outgoing, accepted: bool) -> MessagingError | None:
        if self._returned and self._was_returned(message):
            return Unroutable(f"no queue '{message.queue}'; it is declared again for the messages that follow")
        if not accepted:
            return NotConfirmed(f"refused by the broker, queue '{message.queue}' may be full or without a leader")
        return None

    def _was_returned(self, message: Outgoing) -> bool:
        """Whether a return is about this message; it is about one only."""
        which = (message.queue, message.properties.message_id, message.body)
        if which not in self._returned:
            return False
        self._returned[which] -= 1
        if not self._returned[which]:
            del self._returned[which]
        return True

    def _on_return(self, _channel: Channel, method: Basic.Return, properties: BasicProperties, body: bytes) -> None:
        """Basic.Return comes before the Basic.Ack of the same message, which then means "handled", not "stored"."""
        self._returned[method.routing_key, properties.message_id, body] += 1
        if not self._declaring:
            self._declaring = True
            self.link.declare_again(self._declared)

    def _declared(self) -> None:
        self._declaring = False

    def _expire(self) -> None:
        now = time.monotonic()
        self._fail(lambda message: message.deadline <= now)
        self._expiring = bool(self._waiting or self._unconfirmed)
        if self._expiring:
            self._owner.later(EXPIRY_INTERVAL_S, self._expire)

    def _fail(self, is_due: Callable[[Outgoing], bool]) -> None:
        due = [message for message in self._waiting if is_due(message)]
        if due:
            self._waiting = deque(message for message in self._waiting if not is_due(message))
        for tag, message in list(self._unconfirmed.items()):
            if is_due(message):
                del self._unconfirmed[tag]
                due.append(message)
        for message in due:
            message.done(self._reason(message))

    def _reason(self, message: Outgoing) -> MessagingError:
        if message.sent:
            return NotConfirmed(f"sent to queue '{message.queue}' but not confirmed in time, it may have arrived")
        if self.link.blocked:
            return BrokerBlocked("the broker takes no messages, its memory or disk alarm is on")
        if self.link.trouble is not None:
            return again(self.link.trouble)
        return BrokerUnavailable("not sent in time")
