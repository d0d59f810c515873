"""The errors of messaging, and one line for each cause."""

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
MAX_LINE_LENGTH = 300

_REFUSED = "access refused for user '{user}', check name and password"
_SILENT = "no answer in time"
_KNOWN: tuple[tuple[type[BaseException], str], ...] = (
    (ConnectionRefusedError, "connection refused, nothing listens there"),
    (TimeoutError, _SILENT),
    (AMQPConnectorStackTimeout, _SILENT),
    (ConnectionOpenAborted, _SILENT),
    (IncompatibleProtocolError, "closed the connection before the AMQP handshake, is it a RabbitMQ that is running?"),
    (socket.gaierror, "host name not found"),
    (ProbableAuthenticationError, _REFUSED),
    (ProbableAccessDeniedError, "user '{user}' may not use the virtual host"),
    (StreamLostError, "connection lost"),
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
    if isinstance(cause, ConnectionClosedByBroker):
        if cause.reply_code == ACCESS_REFUSED:
            return _REFUSED.format(user=user)
        return one_line(f"closed by the broker: {cause.reply_code} {cause.reply_text}")
    return one_line(f"{type(cause).__name__}: {cause}".removesuffix(": "))


def one_line(text: str) -> str:
    """Return the text as a single line of bounded length, for a log or a header."""
    return " ".join(text.split())[:MAX_LINE_LENGTH]


def _innermost(error: BaseException) -> BaseException:
    """Return the cause inside pika's nested exceptions; that of the last attempt, if it tried several addresses."""
    while True:
        if isinstance(error, AMQPConnectionWorkflowFailed) and error.exceptions:
            error = error.exceptions[-1]
        elif isinstance(error, AMQPConnectorException) and isinstance(getattr(error, "exception", None), BaseException):
            error = error.exception
        elif isinstance(error, AMQPError) and error.args and isinstance(error.args[0], BaseException):
            error = error.args[0]
        else:
            return error
