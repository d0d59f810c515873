"""A connection that survives message headers that pika cannot decode.

The one place that overrides a private method of pika, because there is no public hook between its socket and its
decoder. It turns itself off: a pika without this method never calls it. To be deleted when pika decodes such headers
or reports them per message; tests/unit/messaging/test_tolerant.py then fails and says so.
"""

import struct

from pika import BasicProperties, SelectConnection, spec  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.exceptions import AMQPError  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.frame import Frame, Header  # type: ignore[import-untyped]  # pika ships no py.typed

# Set in place of headers that could not be read. Any sender may set it, but only on its own messages.
UNREADABLE = "x-unreadable-headers"

_FRAME_START = struct.Struct(">BHL")  # AMQP 0-9-1, 4.2.3: type, channel, payload size
_CONTENT_HEADER = struct.Struct(">HHQ")  # AMQP 0-9-1, 4.2.6.1: class, weight, body size

# What pika raises, decoding or encoding, on a timestamp beyond the year 9999, tables nested a thousand deep, an
# infinite float, an unknown type, a truncated table. RabbitMQ 3.10 accepts the first two.
CODEC_ERRORS = (
    AMQPError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)


class TolerantConnection(SelectConnection):  # type: ignore[misc]  # pika ships no py.typed
    """SelectConnection, except that unreadable message properties arrive as the one header UNREADABLE.

    pika decodes properties while it reads the socket, and closes the connection on an error. The broker would then
    deliver the same message on the next connection, and so on: one message would stop the whole queue.
    """

    def _read_frame(self) -> tuple[int, Frame | None]:
        try:
            return super()._read_frame()  # type: ignore[no-any-return]
        except CODEC_ERRORS:
            replaced = without_properties(self._frame_buffer)
            if replaced is None:
                raise
            return replaced


def without_properties(data: bytes) -> tuple[int, Header] | None:
    """Return the length of the content header frame at the start of `data` and the frame without its properties.

    None for other frames: an unreadable method is the broker's fault and must show.
    """
    frame_type, channel, payload_size = _FRAME_START.unpack_from(data)
    if frame_type != spec.FRAME_HEADER:
        return None
    _class, _weight, body_size = _CONTENT_HEADER.unpack_from(data, _FRAME_START.size)
    length = _FRAME_START.size + payload_size + spec.FRAME_END_SIZE
    return length, Header(channel, body_size, BasicProperties(headers={UNREADABLE: True}))
