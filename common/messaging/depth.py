"""Ask the broker now and then how many messages its queues hold."""

from collections.abc import Sequence

from pika.channel import Channel  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.connection import Connection  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.frame import Method  # type: ignore[import-untyped]  # pika ships no py.typed

from common.messaging.owner import Owner


class DepthProbe:
    """Reads the number of ready messages by passive declaration, every `interval_s` seconds, on the owner's thread.

    On a channel of its own: AMQP closes the channel when the queue is missing, and consuming must go on.
    """

    def __init__(self, owner: Owner, queues: Sequence[str], interval_s: float) -> None:
        self._owner = owner
        self._queues = queues
        self._interval_s = interval_s
        self._connection: Connection | None = None
        self._timer: object | None = None
        self._number = 0  # of the queue asked for now
        self._depths: dict[str, int] = {}

    @property
    def depths(self) -> dict[str, int]:
        """The last answer per queue; without queues that do not exist, empty while the broker is away. Any thread."""
        return dict(self._depths)

    def start(self, connection: Connection) -> None:
        """Ask over this connection from now on."""
        self._connection = connection
        self._number = 0
        self._open()

    def stop(self) -> None:
        """Forget the connection and the depths: an old number would be plotted as if it were true."""
        self._connection = None
        self._depths = {}
        if self._timer is not None:
            self._owner.cancel(self._timer)
            self._timer = None

    def _open(self) -> None:
        self._timer = None
        if self._connection is not None and self._connection.is_open:
            self._connection.channel(on_open_callback=self._opened)

    def _opened(self, channel: Channel) -> None:
        channel.add_on_close_callback(self._closed)
        self._ask(channel)

    def _ask(self, channel: Channel) -> None:
        if self._number < len(self._queues):
            name = self._queues[self._number]
            channel.queue_declare(name, passive=True, callback=lambda frame: self._answered(channel, name, frame))
        else:
            channel.close()

    def _answered(self, channel: Channel, name: str, frame: Method) -> None:
        self._depths[name] = frame.method.message_count
        self._number += 1
        self._ask(channel)

    def _closed(self, channel: Channel, _reason: Exception) -> None:
        """By us after the last queue, by the broker for a queue that does not exist, or with the connection."""
        if channel.connection is not self._connection:
            return
        if self._number < len(self._queues):
            self._depths.pop(self._queues[self._number], None)
            self._number += 1
            self._open()
        else:
            self._number = 0
            self._timer = self._owner.later(self._interval_s, self._open)
