"""A connection that outlives message headers pika cannot read, and that can be ended without the broker's help."""

import struct

from pika import BasicProperties, SelectConnection, spec  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.exceptions import AMQPError, ConnectionClosedByClient  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.frame import Frame, Header  # type: ignore[import-untyped]  # pika ships no py.typed

# Set in place of headers that could not be read. Headers are the sender's to choose, so a forged one only harms itself.
UNREADABLE = "x-unreadable-headers"

ABORTED = 320  # AMQP 0-9-1 reply code "connection-forced"

_FRAME_START = struct.Struct(">BHL")  # AMQP 0-9-1, 4.2.3: type, channel, payload size
_CONTENT_HEADER = struct.Struct(">HHQ")  # AMQP 0-9-1, 4.2.6.1: class, weight, body size

# What pika's decoder raises on a timestamp beyond the year 9999, tables nested a thousand deep, an infinite float, an
# unknown type, a cut-off table. RabbitMQ 3.10 lets the first two through.
_UNREADABLE_ERRORS = (
    AMQPError,
    ArithmeticError,
    AttributeError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)


class TolerantConnection(SelectConnection):  # type: ignore[misc]  # pika ships no py.typed
    """SelectConnection, except that unreadable message properties arrive as the one header UNREADABLE.

    pika decodes properties while it reads the socket and gives the connection up where it fails. The broker would then
    deliver the same message on the next connection, and so on for ever: one message would stop the whole queue.
    """

    def _read_frame(self) -> tuple[int, Frame | None]:
        try:
            consumed: int
            consumed, frame = super()._read_frame()
        except _UNREADABLE_ERRORS:
            replaced = without_properties(self._frame_buffer)
            if replaced is None:
                raise
            return replaced
        return consumed, frame

    def _on_connection_workflow_done(self, outcome: object) -> None:
        """Cutting a handshake short, pika 1.4.4 passes an exception class where it expects an instance, and trips."""
        super()._on_connection_workflow_done(outcome() if isinstance(outcome, type) else outcome)

    def abort(self) -> None:
        """End the connection without a farewell, for a broker that does not read; pika has no public way to."""
        if not self.is_closed:
            self._terminate_stream(ConnectionClosedByClient(ABORTED, "aborted"))


def without_properties(data: bytes) -> tuple[int, Header] | None:
    """The content header frame at the start of `data` and its length, its properties left unread; None for others."""
    frame_type, channel, payload_size = _FRAME_START.unpack_from(data)
    if frame_type != spec.FRAME_HEADER:
        return None
    _class, _weight, body_size = _CONTENT_HEADER.unpack_from(data, _FRAME_START.size)
    length = _FRAME_START.size + payload_size + spec.FRAME_END_SIZE
    return length, Header(channel, body_size, BasicProperties(headers={UNREADABLE: True}))
