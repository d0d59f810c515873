"""Read and write message headers, whose every key, type and value a stranger may have chosen."""

import struct
from collections.abc import Mapping

from pika import BasicProperties  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.exceptions import AMQPError  # type: ignore[import-untyped]  # pika ships no py.typed

from common.messaging.errors import one_line
from common.messaging.tolerant import UNREADABLE

# Ours. Not x-death: RabbitMQ 4 ignores one that a client sends back, so its counts would start again with each retry.
ATTEMPTS = "x-attempts"
REASON = "x-reason"

MOST_ATTEMPTS = 1_000_000
# The broker closes the connection on a header frame above frame_max (128 KiB); what came in just below it must not
# go over it by our additions, or it would come back for ever.
MOST_HEADER_BYTES = 64 * 1024

# The broker writes these itself. CC and BCC are orders to it: copied, each retry would send copies to other queues.
_BROKERS_OWN = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count", "x-acquired-count")
# UNREADABLE is about the message as it came; in the dead-letter queue it would condemn a message put back by hand.
_NOT_CARRIED = frozenset({"CC", "BCC", UNREADABLE})
_KEPT = ("content_type", "content_encoding", "correlation_id", "reply_to", "message_id", "timestamp", "type", "app_id")


def readable(properties: BasicProperties) -> dict[str, object]:
    """The headers whose keys are text; an empty dict where there are none."""
    return {key: value for key, value in (properties.headers or {}).items() if isinstance(key, str)}


def carrier(headers: Mapping[str, object]) -> dict[str, str]:
    """The headers that can hold trace context: text ones. A propagator given a number or a list would raise."""
    return {key: value for key, value in headers.items() if isinstance(value, str)}


def attempts_made(headers: Mapping[str, object]) -> int:
    """How often the message was tried before, 0 where the header is missing or nonsense."""
    value = headers.get(ATTEMPTS)
    if isinstance(value, bool) or not isinstance(value, int):
        return 0
    return min(max(value, 0), MOST_ATTEMPTS)


def message_id(properties: BasicProperties) -> str | None:
    """The sender's id if it is text; pika leaves bytes that are not UTF-8 as bytes."""
    found = properties.message_id
    return found if isinstance(found, str) else None


def sent_at(properties: BasicProperties) -> int | None:
    """When the sender says it sent the message, in seconds since 1970; None where it says nothing that can be.

    AMQP's timestamp has whole seconds, so an age computed from it is up to a second too long.
    """
    found = properties.timestamp
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else None


def moved(properties: BasicProperties, attempts: int, reason: str) -> BasicProperties:
    """Properties for the same message in another queue: the sender's, with our count and reason, safe to send.

    Left out are user_id (the broker refuses one that is not our own, and would close the channel), expiration (it
    would cut the retry delay or the stay in the dead-letter queue short) and priority.
    """
    ours: dict[str, object] = {ATTEMPTS: attempts, REASON: one_line(reason)}
    kept = {name: getattr(properties, name) for name in _KEPT}
    theirs = {key: value for key, value in readable(properties).items() if not _is_dropped(key)}
    whole = BasicProperties(**kept, headers={**theirs, **ours}, delivery_mode=2)
    if _fits(whole):
        return whole
    trace = {key: value for key, value in carrier(theirs).items() if key in ("traceparent", "tracestate")}
    small = BasicProperties(headers={**trace, **ours}, message_id=message_id(properties), delivery_mode=2)
    return small if _fits(small) else BasicProperties(headers=ours, delivery_mode=2)


def _is_dropped(key: str) -> bool:
    return key in _NOT_CARRIED or key.startswith(_BROKERS_OWN)


def _fits(properties: BasicProperties) -> bool:
    """Whether pika can write them at all (not every value it reads) and the frame stays small."""
    try:
        return sum(len(piece) for piece in properties.encode()) <= MOST_HEADER_BYTES
    except (
        AMQPError,
        ArithmeticError,
        AssertionError,
        AttributeError,
        RecursionError,
        TypeError,
        ValueError,
        struct.error,
    ):
        return False
