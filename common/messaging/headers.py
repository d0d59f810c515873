"""Messages and their headers, whose every key, type and value an unknown sender may have chosen."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from opentelemetry import propagate
from pika import BasicProperties  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.channel import Channel  # type: ignore[import-untyped]  # pika ships no py.typed

from common.messaging.errors import PoisonMessage, one_line
from common.messaging.tolerant import CODEC_ERRORS, UNREADABLE

# Ours. Not x-death: RabbitMQ 4 ignores one that a client sends back, so its counts would start again with each retry.
ATTEMPTS = "x-attempts"
REASON = "x-reason"
REDELIVERIES = "x-redeliveries"

MAX_COUNT = 1_000_000
# The broker closes the connection on a header frame above frame_max (128 KiB). What arrived just below it must not
# exceed it by our additions: the message could never be moved.
MAX_HEADER_BYTES = 64 * 1024

# The broker writes these itself. CC and BCC are orders to it: copied, each retry would send copies to other queues.
_BROKERS_OWN = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count")
# UNREADABLE describes the message as received; copied, it would reject a dead letter that is requeued by hand.
_NOT_COPIED = frozenset({"CC", "BCC", UNREADABLE})
_COPIED = (
    "content_type",
    "content_encoding",
    "correlation_id",
    "reply_to",
    "message_id",
    "timestamp",
    "type",
    "app_id",
)


@dataclass(frozen=True, slots=True)
class Message:
    """A text message; `attempt` counts from 1, `redelivered` means that it may have been worked on before."""

    text: str
    body: bytes
    message_id: str | None
    headers: Mapping[str, object]
    redelivered: bool
    attempt: int


@dataclass(frozen=True, slots=True, eq=False)
class Delivery:
    """A message as received, and the channel to acknowledge it on: delivery tags are valid on that one only."""

    channel: Channel
    tag: int
    redelivered: bool
    properties: BasicProperties
    body: bytes

    @property
    def headers(self) -> dict[str, object]:
        """The headers whose keys are text; pika leaves a key as bytes where it is not UTF-8."""
        return {key: value for key, value in (self.properties.headers or {}).items() if isinstance(key, str)}

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return _count(self.headers, ATTEMPTS) + 1

    @property
    def redeliveries(self) -> int:
        """How often the message was delivered before to a consumer that did not acknowledge it, as far as counted."""
        return _count(self.headers, REDELIVERIES)

    @property
    def message_id(self) -> str | None:
        """The sender's id if it is text; pika leaves bytes that are not UTF-8 as bytes."""
        found = self.properties.message_id
        return found if isinstance(found, str) else None

    @property
    def sent_at(self) -> int | None:
        """When the message was sent, in seconds since 1970, if its sender set a valid timestamp; a retry keeps it.

        AMQP's timestamp has whole seconds, so an age computed from it is up to a second too long.
        """
        found = self.properties.timestamp
        return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else None


def decode(delivery: Delivery, max_body_bytes: int) -> Message:
    """Return the message; raise PoisonMessage if it is too large, not UTF-8 or has headers that cannot be read."""
    headers = delivery.headers
    if UNREADABLE in headers:
        raise PoisonMessage("headers that cannot be read")
    if len(delivery.body) > max_body_bytes:
        raise PoisonMessage(f"body of {len(delivery.body)} bytes, the limit is {max_body_bytes}")
    try:
        text = delivery.body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PoisonMessage(f"body is not UTF-8 at byte {error.start}") from error
    return Message(
        text=text,
        body=delivery.body,
        message_id=delivery.message_id,
        headers=MappingProxyType(headers),
        redelivered=delivery.redelivered or delivery.redeliveries > 0,
        attempt=delivery.attempt,
    )


def carrier(headers: Mapping[str, object]) -> dict[str, str]:
    """Return the headers that can hold context, the text ones: a propagator raises on a number or a list."""
    return {key: value for key, value in headers.items() if isinstance(value, str)}


def copied(delivery: Delivery, *, attempts: int, redeliveries: int, reason: str) -> BasicProperties:
    """Return properties for a copy of the message in another queue: the sender's, with our counts and reason.

    Left out are user_id (the broker rejects one that is not our own, and would close the channel), expiration (it
    would shorten the retry delay or the time in the dead-letter queue) and priority. What cannot be sent is left out.
    """
    ours: dict[str, object] = {ATTEMPTS: attempts, REASON: one_line(reason)}
    if redeliveries:
        ours[REDELIVERIES] = redeliveries
    kept = {name: getattr(delivery.properties, name) for name in _COPIED}
    theirs = {key: value for key, value in delivery.headers.items() if not _is_dropped(key)}
    context = {key: value for key, value in carrier(theirs).items() if key in propagate.get_global_textmap().fields}
    for properties in (
        BasicProperties(**kept, headers={**theirs, **ours}, delivery_mode=2),
        BasicProperties(headers={**context, **ours}, message_id=delivery.message_id, delivery_mode=2),
    ):
        if _fits(properties):
            return properties
    return BasicProperties(headers=ours, delivery_mode=2)


def _count(headers: Mapping[str, object], name: str) -> int:
    """Return the count in a header, 0 where it is missing or not a count."""
    value = headers.get(name)
    if isinstance(value, bool) or not isinstance(value, int):
        return 0
    return min(max(value, 0), MAX_COUNT)


def _is_dropped(key: str) -> bool:
    return key in _NOT_COPIED or key.startswith(_BROKERS_OWN)


def _fits(properties: BasicProperties) -> bool:
    """Whether pika can encode them (it cannot encode every value that it decodes) and the frame stays small."""
    try:
        return sum(len(piece) for piece in properties.encode()) <= MAX_HEADER_BYTES
    except CODEC_ERRORS:
        return False
