"""The three queues: their names, what they promise, and how they are declared."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pika.channel import Channel  # type: ignore[import-untyped]  # pika ships no py.typed

from common.messaging.errors import QueueMismatch, one_line

Arguments = dict[str, str | int]

# RabbitMQ 4 gives up on a message after 20 deliveries, and 3.10 never does. A delivery counts when its consumer dies
# with it in hand, so a low limit would dead-letter good messages merely because the consumer was restarted often.
DELIVERY_LIMIT = 100
MOST_DEAD = 10_000
MOST_DEAD_BYTES = 64 * 1024 * 1024

RESOURCE_LOCKED = 405  # AMQP 0-9-1 reply code: an exclusive queue of another connection
PRECONDITION_FAILED = 406  # AMQP 0-9-1 reply code: declared with other properties
MISMATCH_CODES = frozenset({RESOURCE_LOCKED, PRECONDITION_FAILED})

# RabbitMQ's text: PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'messages' in vhost '/': received the
# value 'quorum' of type 'longstr' but current is none
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
    arguments: Arguments = field(default_factory=dict)


def retry_name(name: str) -> str:
    """Where a failed message of queue `name` waits before its next attempt."""
    return f"{name}.retry"


def dead_name(name: str) -> str:
    """Where a message of queue `name` ends that nobody could process."""
    return f"{name}.dead"


def work_queue(name: str) -> Queue:
    """The queue that is worked from: replicated, never drops, and hands what it gives up on to the dead-letter queue.

    At-least-once dead-lettering (RabbitMQ 3.10 and later) needs `reject-publish`; with the default strategy a message
    would be lost if the broker stopped between removing it here and storing it there.
    """
    return Queue(
        name,
        {
            "x-queue-type": "quorum",
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": dead_name(name),
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        },
    )


def retry_queue(name: str, delay_s: float) -> Queue:
    """The waiting room of queue `name`: nobody consumes it, after `delay_s` the broker puts the message back."""
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
    """The dead-letter queue of `name`: bounded, the oldest go first, since nobody may look for weeks."""
    return Queue(
        dead_name(name),
        {
            "x-queue-type": "quorum",
            "x-max-length": MOST_DEAD,
            "x-max-length-bytes": MOST_DEAD_BYTES,
            "x-overflow": "drop-head",
        },
    )


def declare(channel: Channel, queues: Sequence[Queue], on_done: Callable[[], None]) -> None:
    """Declare the queues in order, then call `on_done`; after a mismatch the broker closes the channel instead."""
    if not queues:
        on_done()
        return
    first, *rest = queues
    channel.queue_declare(
        first.name,
        durable=True,
        arguments=dict(first.arguments),
        callback=lambda _declared: declare(channel, rest, on_done),
    )


def mismatch(reply_text: str) -> QueueMismatch:
    """The broker's refusal as one line: which queue, what differs, what to do."""
    found = _INEQUIVALENT.search(_TYPED_VALUE.sub(r"\1", reply_text))
    if not found:
        return QueueMismatch(one_line(f"a queue is held or declared otherwise by someone else: {reply_text}"))
    delay = _MILLISECONDS.fullmatch(found["found"]) if found["argument"] == "x-message-ttl" else None
    remedy = (
        f"set the retry delay to {int(delay[1]) / 1000:g} s again, or delete it once it is empty"
        if delay
        else "empty and delete it"
    )
    return QueueMismatch(
        one_line(
            f"queue '{found['queue']}' exists but was declared otherwise: "
            f"{found['argument']} is {found['found']}, not {found['wanted']}; "
            f"{remedy} (rabbitmqctl delete_queue {found['queue']}) or use another virtual host"
        )
    )
