"""Message properties that pika cannot decode do not break the connection."""

import struct

import pytest
from pika import BasicProperties, SelectConnection  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.exceptions import AMQPError  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.frame import Body, Header, decode_frame  # type: ignore[import-untyped]  # pika ships no py.typed

from common.messaging.tolerant import UNREADABLE, without_properties

FAR_FUTURE = b"T" + struct.pack(">Q", 2**63 - 1)


class Raw(BasicProperties):  # type: ignore[misc]  # pika ships no py.typed
    """Properties with one header `a` whose encoded value is given."""

    def __init__(self, value: bytes) -> None:
        super().__init__()
        self._value = value

    def encode(self) -> list[bytes]:
        """Return the flag "headers" and a table of one entry (AMQP 0-9-1, 4.2.6.1 and 4.2.5.5)."""
        entry = b"\x01a" + self._value
        return [struct.pack(">HI", self.FLAG_HEADERS, len(entry)), entry]


def nested(depth: int) -> bytes:
    """Return an encoded table with `depth` levels."""
    value = b"V"
    for _ in range(depth):
        value = b"F" + struct.pack(">I", len(value) + 2) + b"\x01a" + value
    return value


@pytest.mark.parametrize(
    "value",
    [FAR_FUTURE, nested(5000), b"d" + struct.pack(">d", float("nan")), b"Z", b"l\x00"],
    ids=["a timestamp beyond year 9999", "nested too deep", "not a number", "unknown type", "cut off"],
)
def test_unreadable_properties_are_replaced_and_the_frame_is_skipped(value: bytes) -> None:
    """pika alone raises an error and loses the connection. The frame is skipped by its length.

    When pika decodes all of these, common/messaging/tolerant.py is not needed any more.
    """
    data = Header(1, 42, Raw(value)).marshal()
    with pytest.raises((AMQPError, ArithmeticError, OSError, RecursionError, ValueError, struct.error)):
        decode_frame(data)
    replaced = without_properties(data + b"the next frame")
    assert replaced is not None
    length, header = replaced
    assert length == len(data)
    assert (header.channel_number, header.body_size) == (1, 42)
    assert header.properties.headers == {UNREADABLE: True}


def test_pika_still_has_the_overridden_method() -> None:
    """Otherwise the override would never be called: find a public interface, or delete common/messaging/tolerant.py."""
    assert callable(getattr(SelectConnection, "_read_frame", None))


def test_other_frames_are_not_replaced() -> None:
    """Only a content header contains a sender's headers; an unreadable method is an error of the broker."""
    assert without_properties(Body(1, b"text").marshal()) is None
