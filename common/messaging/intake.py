"""Take messages from a queue and acknowledge them."""

from collections.abc import Callable

from pika import BasicProperties  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.channel import Channel  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.spec import Basic  # type: ignore[import-untyped]  # pika ships no py.typed

from common.messaging.broker import Broker
from common.messaging.depth import DepthProbe
from common.messaging.link import Link
from common.messaging.message import Delivery
from common.messaging.owner import Owner
from common.messaging.topology import work_queue


class Intake:
    """Consumes over a link of its own; all methods on the owner's thread, but `in_hand` and `holds` on any.

    After each reconnect it consumes again, and the broker delivers anew what was not acknowledged.
    """

    def __init__(
        self,
        owner: Owner,
        broker: Broker,
        queue: str,
        *,
        prefetch: int,
        take: Callable[[Delivery], None],
        depth: DepthProbe,
    ) -> None:
        self.link = Link(owner, broker, "consumer", [work_queue(queue)], self)
        self._queue = queue
        self._prefetch = prefetch
        self._take = take
        self._depth = depth
        self._channel: Channel | None = None
        self._tag = ""
        self._in_hand: set[int] = set()
        self._stopping = False
        self._on_stopped: Callable[[], None] = lambda: None
        self.ready = False

    @property
    def in_hand(self) -> int:
        """How many messages were taken over the present connection and not acknowledged yet."""
        return len(self._in_hand)

    @property
    def settled(self) -> bool:
        """Whether messages come, or are not wanted any more."""
        return self.ready or self._stopping

    def holds(self, delivery: Delivery) -> bool:
        """Whether the delivery can still be acknowledged; if not, the broker delivers the message again."""
        return delivery.channel is self._channel

    def acknowledge(self, delivery: Delivery) -> None:
        """Tell the broker that it may forget the message."""
        if self.holds(delivery):
            delivery.channel.basic_ack(delivery.tag)
            self._in_hand.discard(delivery.tag)

    def stop(self, on_stopped: Callable[[], None]) -> None:
        """Take no more; what is in hand can still be acknowledged. `on_stopped` may be called twice."""
        self._stopping = True
        self._on_stopped = on_stopped
        if self.ready and self._channel is not None and self._channel.is_open:
            self.ready = False
            self._channel.basic_cancel(self._tag, callback=lambda _cancelled: on_stopped())
        else:
            on_stopped()

    def on_up(self, channel: Channel) -> None:
        """Consume, with at most `prefetch` messages on our side."""
        if self._stopping:
            return
        self._channel = channel
        channel.add_on_cancel_callback(lambda _frame: self.link.drop("the queue was deleted or moved"))
        channel.basic_qos(prefetch_count=self._prefetch)
        self._tag = channel.basic_consume(self._queue, self._on_message, callback=lambda _consuming: self._consuming())
        self._depth.start(channel.connection)

    def on_down(self) -> None:
        """Forget the deliveries of the lost channel; nothing comes over it any more, whether it was to stop or not."""
        self.ready = False
        self._channel = None
        self._in_hand.clear()
        self._depth.stop()
        self._on_stopped()

    def on_blocked(self, blocked: bool) -> None:
        """Nothing to do: the broker stops reading from publishers only, and this connection never publishes."""

    def _consuming(self) -> None:
        self.ready = True

    def _on_message(self, channel: Channel, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        self._in_hand.add(method.delivery_tag)
        self._take(Delivery(channel, method.delivery_tag, method.redelivered, properties, body))
