"""The broker's address."""

from common.messaging import Broker


def test_the_password_is_not_shown() -> None:
    """A Broker may end up in a log line or a traceback."""
    assert "s3cret" not in repr(Broker("mq", password="s3cret"))


def test_a_connection_is_named_after_service_and_role() -> None:
    """So that `rabbitmqctl list_connections` tells who is who."""
    parameters = Broker("mq", connection_name="mythical-recorder").parameters("consumer")
    assert parameters.client_properties == {"connection_name": "mythical-recorder consumer"}
    assert parameters.heartbeat == 10
