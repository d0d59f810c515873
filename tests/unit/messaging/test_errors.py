"""Each messaging error is one line with a remedy."""

import socket

import pytest
from pika.adapters.utils.connection_workflow import (  # type: ignore[import-untyped]  # pika ships no py.typed
    AMQPConnectionWorkflowFailed,
    AMQPConnectorAMQPHandshakeError,
    AMQPConnectorSocketConnectError,
    AMQPConnectorStackTimeout,
)
from pika.exceptions import (  # type: ignore[import-untyped]  # pika ships no py.typed
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    ConnectionOpenAborted,
    IncompatibleProtocolError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    StreamLostError,
)

from common.messaging.errors import BrokerUnavailable, copy_error, explain, mismatch


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            AMQPConnectionWorkflowFailed([AMQPConnectorSocketConnectError(ConnectionRefusedError(111, "refused"))]),
            "connection refused, nothing listens there",
        ),
        (AMQPConnectionWorkflowFailed([AMQPConnectorStackTimeout("…")]), "no answer in time"),
        (AMQPConnectorAMQPHandshakeError(ConnectionOpenAborted("…")), "no answer in time"),
        (
            IncompatibleProtocolError("…"),
            "closed the connection before the AMQP handshake, is it a RabbitMQ that is running?",
        ),
        (AMQPConnectionWorkflowFailed([socket.gaierror(-2, "unknown")]), "host name not found"),
        (ProbableAuthenticationError("…"), "access refused for user 'guest', check name and password"),
        (ConnectionClosedByBroker(403, "ACCESS_REFUSED"), "access refused for user 'guest', check name and password"),
        (ProbableAccessDeniedError("…"), "user 'guest' may not use the virtual host, or it does not exist"),
        (
            ChannelClosedByBroker(403, "ACCESS_REFUSED - access to queue 'messages' refused"),
            "closed by the broker: 403 ACCESS_REFUSED - access to queue 'messages' refused, "
            "rabbitmqctl set_permissions grants it",
        ),
        (ConnectionClosedByBroker(320, "CONNECTION_FORCED"), "closed by the broker: 320 CONNECTION_FORCED"),
        (StreamLostError("Stream connection lost: …"), "connection lost"),
        (RuntimeError("two\nlines"), "RuntimeError: two lines"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_the_reason_of_a_failed_connection_is_one_line(error: BaseException, line: str) -> None:
    """For any nesting of pika's exceptions, the line has the cause and no traceback."""
    assert explain(error, "guest") == line


@pytest.mark.parametrize(
    ("reply", "difference"),
    [
        (
            "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'messages' in vhost '/': "
            "received none but current is the value 'quorum' of type 'longstr'",
            "x-queue-type is 'quorum', expected none",
        ),
        (
            "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'messages' in vhost '/': "
            "received the value '500' of type 'signedint' but current is the value '1000' of type 'signedint'",
            "x-message-ttl is '1000', expected '500'",
        ),
        (
            "PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'messages' in vhost '/': "
            "received 'true' but current is 'false'",
            "durable is 'false', expected 'true'",
        ),
    ],
)
def test_a_mismatch_names_the_queue_the_difference_and_the_remedy(reply: str, difference: str) -> None:
    """The message is one line for the person who fixes it."""
    line = str(mismatch(reply))
    assert "queue 'messages' exists but is declared differently" in line
    assert difference in line
    assert "rabbitmqctl delete_queue messages" in line


def test_a_mismatch_of_the_retry_delay_names_the_current_delay() -> None:
    """The usual cause is a changed setting, and restoring it is the simplest fix."""
    line = str(
        mismatch(
            "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'messages.retry' in vhost '/': "
            "received the value '500' of type 'signedint' but current is the value '1500' of type 'signedint'"
        )
    )
    assert "set the retry delay back to 1.5 s, or delete the queue once it is empty" in line
    of_another = "inequivalent arg 'x-message-ttl' for queue 'messages' in vhost '/': received none but current is the "
    assert "retry delay" not in str(mismatch(f"PRECONDITION_FAILED - {of_another}value '1000' of type 'signedint'"))


def test_an_unknown_mismatch_quotes_the_broker() -> None:
    """Examples are an exclusive queue of another connection, and a text of a later release."""
    assert "RESOURCE_LOCKED - cannot" in str(mismatch("RESOURCE_LOCKED - cannot obtain exclusive access"))


def test_a_copied_error_is_another_instance() -> None:
    """One exception raised in two threads would accumulate two tracebacks."""
    error = BrokerUnavailable("somewhere")
    assert copy_error(error) is not error
    assert (type(copy_error(error)), str(copy_error(error))) == (BrokerUnavailable, "somewhere")
