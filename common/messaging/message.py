"""What a handler gets to see of a message."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pika import BasicProperties  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.channel import Channel  # type: ignore[import-untyped]  # pika ships no py.typed

from common.messaging import headers
from common.messaging.errors import Poison
from common.messaging.tolerant import UNREADABLE


@dataclass(frozen=True, slots=True)
class Message:
    """A text message; `attempt` counts from 1, `redelivered` says that it may have been worked on before."""

    text: str
    body: bytes
    message_id: str | None
    headers: Mapping[str, object]
    redelivered: bool
    attempt: int


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """A message as it came in, and the channel it must be acknowledged on: tags mean nothing on another."""

    channel: Channel
    tag: int
    redelivered: bool
    properties: BasicProperties
    body: bytes

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return headers.attempts_made(headers.readable(self.properties)) + 1

    @property
    def message_id(self) -> str | None:
        """The sender's id, if it sent a readable one."""
        return headers.message_id(self.properties)

    @property
    def sent_at(self) -> int | None:
        """When it was sent, in seconds since 1970, if the sender said so; a retry does not change it."""
        return headers.sent_at(self.properties)


def read(delivery: Delivery, max_body_bytes: int) -> Message:
    """The message in a delivery; Poison if it is larger than `max_body_bytes`, not UTF-8 or has unreadable headers."""
    known = headers.readable(delivery.properties)
    if UNREADABLE in known:
        raise Poison("headers that cannot be read")
    if len(delivery.body) > max_body_bytes:
        raise Poison(f"body of {len(delivery.body)} bytes, at most {max_body_bytes} are taken")
    try:
        text = delivery.body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Poison(f"body is not UTF-8 at byte {error.start}") from error
    return Message(
        text=text,
        body=delivery.body,
        message_id=delivery.message_id,
        headers=MappingProxyType(known),
        redelivered=delivery.redelivered,
        attempt=delivery.attempt,
    )
