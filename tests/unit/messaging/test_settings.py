"""The connection of the broker has a name, and its settings hide the password."""

from common.messaging.connection import connection_parameters
from common.messaging.topology import Broker


def test_the_password_is_not_shown() -> None:
    """A Broker may be in a log line or a traceback."""
    assert "s3cret" not in repr(Broker("mq", password="s3cret"))


def test_a_connection_is_named_after_service_and_role() -> None:
    """`rabbitmqctl list_connections` shows the name."""
    parameters = connection_parameters(Broker("mq", connection_name="mythical-recorder"), "consumer")
    assert parameters.client_properties == {"connection_name": "mythical-recorder consumer"}
    assert parameters.heartbeat == 10
