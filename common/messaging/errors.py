"""The errors of messaging, and one line for each cause."""

import re
import socket

from pika import exceptions as amqp  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.adapters.utils import (  # type: ignore[import-untyped]  # pika ships no py.typed
    connection_workflow as workflow,
)

# AMQP 0-9-1 reply codes.
ACCESS_REFUSED = 403
MISMATCH_CODES = (405, 406)  # an exclusive queue of another connection; declared with other properties

MAX_LINE_LENGTH = 300

# RabbitMQ's text: PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'messages' in vhost '/': received
# none but current is the value 'quorum' of type 'longstr'
_INEQUIVALENT = re.compile(
    r"inequivalent arg '(?P<argument>[^']+)' for queue '(?P<queue>[^']+)'"
    r".*?: received (?P<wanted>.+) but current is (?P<found>.+)",
    re.DOTALL,
)
_MILLISECONDS = re.compile(r"'(\d+)'")
_TYPED_VALUE = re.compile(r"the value (.+?) of type '\w+'")

_REFUSED = "access refused for user '{user}', check name and password"
_SILENT = "no answer in time"
CLOSED_BY_BROKER = "closed by the broker"
_KNOWN: tuple[tuple[type[BaseException], str], ...] = (
    (ConnectionRefusedError, "connection refused, nothing listens there"),
    (TimeoutError, _SILENT),
    (workflow.AMQPConnectorStackTimeout, _SILENT),
    (amqp.ConnectionOpenAborted, _SILENT),
    (
        amqp.IncompatibleProtocolError,
        "closed the connection before the AMQP handshake, is it a RabbitMQ that is running?",
    ),
    (socket.gaierror, "host name not found"),
    (amqp.ProbableAuthenticationError, _REFUSED),
    (amqp.ProbableAccessDeniedError, "user '{user}' may not use the virtual host, or it does not exist"),
    (amqp.StreamLostError, "connection lost"),
)


class MessagingError(Exception):
    """Base class of what this package raises or puts into a future."""


class BrokerUnavailable(MessagingError):
    """No connection to the broker: the message was never sent, so sending it again cannot duplicate it."""


class BrokerBlocked(BrokerUnavailable):
    """Connected, but the broker blocks publishers: its memory or disk alarm is on."""


class QueueMismatch(MessagingError):
    """The queue exists but is declared differently."""


class TooManyInFlight(MessagingError):
    """As many messages as allowed are waiting for their confirm; rejected at once."""


class Unroutable(MessagingError):
    """The broker has no such queue and returned the message."""


class NotConfirmed(MessagingError):
    """Sent but not confirmed in time, or rejected: it may or may not be in the queue."""


class PublisherClosed(MessagingError):
    """Published after close()."""


class PoisonMessage(MessagingError):
    """Raised by a handler for a message that no retry can fix: it goes to the dead-letter queue at once."""


def copy_error(error: MessagingError) -> MessagingError:
    """Return a new exception of the same class and text; one instance must not be raised in two threads."""
    return type(error)(*error.args)


def explain(error: BaseException, user: str) -> str:
    """Return one line that says why a connection failed or ended, from what pika reports; `user` is the login name."""
    cause = _innermost(error)
    for kind, line in _KNOWN:
        if isinstance(cause, kind):
            return line.format(user=user)
    if isinstance(cause, amqp.ConnectionClosedByBroker):
        if cause.reply_code == ACCESS_REFUSED:
            return _REFUSED.format(user=user)
        return one_line(f"{CLOSED_BY_BROKER}: {cause.reply_code} {cause.reply_text}")
    if isinstance(cause, amqp.ChannelClosedByBroker):
        permission = "" if cause.reply_code != ACCESS_REFUSED else ", rabbitmqctl set_permissions grants it"
        return one_line(f"{CLOSED_BY_BROKER}: {cause.reply_code} {cause.reply_text}{permission}")
    return one_line(f"{type(cause).__name__}: {cause}".removesuffix(": "))


def mismatch(reply_text: str) -> QueueMismatch:
    """Return the broker's rejection of a declaration as one line: which queue, what differs, what to do."""
    found = _INEQUIVALENT.search(_TYPED_VALUE.sub(r"\1", reply_text))
    if not found:
        return QueueMismatch(one_line(f"a queue is declared differently or locked by another client: {reply_text}"))
    argument, queue, wanted, actual = found.groups()
    remedy = "delete it once it is empty"
    if argument == "x-message-ttl" and _MILLISECONDS.fullmatch(wanted) and (delay := _MILLISECONDS.fullmatch(actual)):
        remedy = f"set the retry delay back to {int(delay[1]) / 1000:g} s, or delete the queue once it is empty"
    return QueueMismatch(
        one_line(
            f"queue '{queue}' exists but is declared differently: {argument} is {actual}, expected {wanted}; "
            f"{remedy} (rabbitmqctl delete_queue {queue}), or use another virtual host"
        )
    )


def one_line(text: str) -> str:
    """Return the text as a single line of bounded length, for a log or a header."""
    return " ".join(text.split())[:MAX_LINE_LENGTH]


def _innermost(error: BaseException) -> BaseException:
    """Return the cause inside pika's nested exceptions; that of the last attempt, if it tried several addresses."""
    while True:
        if isinstance(error, workflow.AMQPConnectionWorkflowFailed) and error.exceptions:
            error = error.exceptions[-1]
        elif isinstance(error, workflow.AMQPConnectorException) and isinstance(
            getattr(error, "exception", None), BaseException
        ):
            error = error.exception
        elif isinstance(error, amqp.AMQPError) and error.args and isinstance(error.args[0], BaseException):
            error = error.args[0]
        else:
            return error
