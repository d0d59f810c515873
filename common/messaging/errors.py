"""The named ways in which messaging fails, and one line for each cause."""

import socket

from pika.adapters.utils.connection_workflow import (  # type: ignore[import-untyped]  # pika ships no py.typed
    AMQPConnectionWorkflowFailed,
    AMQPConnectorException,
    AMQPConnectorStackTimeout,
)
from pika.exceptions import (  # type: ignore[import-untyped]  # pika ships no py.typed
    AMQPError,
    ConnectionClosedByBroker,
    ConnectionOpenAborted,
    IncompatibleProtocolError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    StreamLostError,
)

ACCESS_REFUSED = 403  # AMQP 0-9-1 reply code "access-refused"
LONGEST_LINE = 300

_REFUSED = "access refused for user '{user}', check name and password"
_SILENT = "no answer in time"
_KNOWN: tuple[tuple[type[BaseException], str], ...] = (
    (ConnectionRefusedError, "connection refused, nothing listens there"),
    (TimeoutError, _SILENT),
    (AMQPConnectorStackTimeout, _SILENT),
    (ConnectionOpenAborted, _SILENT),
    (IncompatibleProtocolError, "hung up before it spoke AMQP, is it a RabbitMQ that is up?"),
    (socket.gaierror, "host name not found"),
    (ProbableAuthenticationError, _REFUSED),
    (ProbableAccessDeniedError, "user '{user}' may not use the virtual host"),
    (StreamLostError, "connection cut"),
)


class MessagingError(Exception):
    """Whatever this package raises or puts into a future."""


class BrokerUnavailable(MessagingError):
    """No connection to the broker: the message was never handed over, sending it again cannot double it."""


class BrokerBlocked(BrokerUnavailable):
    """Connected, but the broker takes no messages: its memory or disk alarm is on."""


class QueueMismatch(MessagingError):
    """The queue exists, declared otherwise by someone else."""


class TooManyInFlight(MessagingError):
    """As many messages as allowed wait for their confirm already; refused at once."""


class Unroutable(MessagingError):
    """The broker had no such queue and returned the message."""


class NotConfirmed(MessagingError):
    """Handed over but not confirmed in time, or refused: it may or may not be in the queue."""


class PublisherClosed(MessagingError):
    """Published after close()."""


class Poison(MessagingError):
    """Raised by a handler for a message that no retry can help: it goes to the dead-letter queue at once."""


def again(error: MessagingError) -> MessagingError:
    """A new exception of the same kind and text, since one instance must not be raised in two threads."""
    return type(error)(*error.args)


def explain(error: BaseException, user: str) -> str:
    """One line that says why a connection failed or ended, from whatever pika reports; `user` is the login name."""
    cause = _innermost(error)
    for kind, line in _KNOWN:
        if isinstance(cause, kind):
            return line.format(user=user)
    if isinstance(cause, ConnectionClosedByBroker):
        if cause.reply_code == ACCESS_REFUSED:
            return _REFUSED.format(user=user)
        return one_line(f"closed by the broker: {cause.reply_code} {cause.reply_text}")
    return one_line(f"{type(cause).__name__}: {cause}".removesuffix(": "))


def one_line(text: str) -> str:
    """The text on a single line of bounded length, fit for a log or a header."""
    return " ".join(text.split())[:LONGEST_LINE]


def _innermost(error: BaseException) -> BaseException:
    """The cause inside pika's nested workflow exceptions; the last attempt's, where it tried several addresses."""
    while True:
        if isinstance(error, AMQPConnectionWorkflowFailed) and error.exceptions:
            error = error.exceptions[-1]
        elif isinstance(error, AMQPConnectorException) and isinstance(getattr(error, "exception", None), BaseException):
            error = error.exception
        elif isinstance(error, AMQPError) and error.args and isinstance(error.args[0], BaseException):
            error = error.args[0]
        else:
            return error
