"""The three queues: their names, what they guarantee, and how they are declared."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pika.channel import Channel  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.frame import Method  # type: ignore[import-untyped]  # pika ships no py.typed

from common.messaging.errors import QueueMismatch, one_line

MAX_DEAD = 10_000
MAX_DEAD_BYTES = 64 * 1024 * 1024

RESOURCE_LOCKED = 405  # AMQP 0-9-1 reply code: an exclusive queue of another connection
PRECONDITION_FAILED = 406  # AMQP 0-9-1 reply code: declared with other properties
MISMATCH_CODES = frozenset({RESOURCE_LOCKED, PRECONDITION_FAILED})

# RabbitMQ's text: PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'messages' in vhost '/': received
# none but current is the value 'quorum' of type 'longstr'
_INEQUIVALENT = re.compile(
    r"inequivalent arg '(?P<argument>[^']+)' for queue '(?P<queue>[^']+)'"
    r".*?: received (?P<wanted>.+) but current is (?P<found>.+)",
    re.DOTALL,
)
_MILLISECONDS = re.compile(r"'(\d+)'")
_TYPED_VALUE = re.compile(r"the value (.+?) of type '\w+'")


@dataclass(frozen=True)
class Queue:
    """A durable queue of the default exchange with its x-arguments."""

    name: str
    arguments: dict[str, str | int] = field(default_factory=dict)


def retry_name(name: str) -> str:
    """Return the queue where a failed message of queue `name` waits before its next attempt."""
    return f"{name}.retry"


def dead_name(name: str) -> str:
    """Return the dead-letter queue of queue `name`."""
    return f"{name}.dead"


def work_queue(name: str) -> Queue:
    """Return the queue that is consumed: durable and without arguments, as any other AMQP client declares it.

    The broker rejects a second declaration with other arguments, so these would be part of the interface. What they
    would add is done by the consumer (retry, dead letters, the limit of redeliveries) or by an operator's policy.
    """
    return Queue(name)


def retry_queue(name: str, delay_s: float) -> Queue:
    """Return the delay queue of queue `name`: nothing consumes it, after `delay_s` the broker moves the message back.

    At-least-once dead-lettering (RabbitMQ 3.10 and later) needs a quorum queue with `reject-publish`; with the default
    strategy a message would be lost if the broker stopped between removing it here and storing it there.
    """
    return Queue(
        retry_name(name),
        {
            "x-queue-type": "quorum",
            "x-message-ttl": round(delay_s * 1000),
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": name,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        },
    )


def dead_queue(name: str) -> Queue:
    """Return the dead-letter queue of `name`: bounded, the oldest are dropped first, as it may be unread for weeks."""
    return Queue(
        dead_name(name),
        {
            "x-queue-type": "quorum",
            "x-max-length": MAX_DEAD,
            "x-max-length-bytes": MAX_DEAD_BYTES,
            "x-overflow": "drop-head",
        },
    )


def declare(
    channel: Channel, queues: Sequence[Queue], on_depth: Callable[[str, int], None], on_done: Callable[[], None]
) -> None:
    """Declare the queues in order, then call `on_done`; after a mismatch the broker closes the channel instead.

    `on_depth` is called with the name of each and the number of its ready messages, which the broker's answer has.
    """
    if not queues:
        on_done()
        return
    first, *rest = queues

    def declared(frame: Method) -> None:
        on_depth(first.name, frame.method.message_count)
        declare(channel, rest, on_depth, on_done)

    channel.queue_declare(first.name, durable=True, arguments=dict(first.arguments), callback=declared)


def mismatch(reply_text: str) -> QueueMismatch:
    """Return the broker's rejection as one line: which queue, what differs, what to do."""
    found = _INEQUIVALENT.search(_TYPED_VALUE.sub(r"\1", reply_text))
    if not found:
        return QueueMismatch(one_line(f"a queue is declared differently or locked by another client: {reply_text}"))
    delay = _MILLISECONDS.fullmatch(found["found"]) if found["argument"] == "x-message-ttl" else None
    remedy = (
        f"set the retry delay back to {int(delay[1]) / 1000:g} s, or delete the queue once it is empty"
        if delay
        else "delete it once it is empty"
    )
    return QueueMismatch(
        one_line(
            f"queue '{found['queue']}' exists but is declared differently: "
            f"{found['argument']} is {found['found']}, expected {found['wanted']}; "
            f"{remedy} (rabbitmqctl delete_queue {found['queue']}), or use another virtual host"
        )
    )
