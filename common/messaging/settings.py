"""The broker's address and credentials, as settings."""

from common.core.env import Env
from common.messaging.broker import Broker


def broker(env: Env, connection_name: str) -> Broker:
    """Read them; raises SettingsError. `connection_name` is what the management page shows."""
    return Broker(
        host=env.text("MYTHICAL_QUEUE_HOST", "mythical-queue"),
        port=env.port("MYTHICAL_QUEUE_HOST_PORT", 5672),
        user=env.text("MYTHICAL_QUEUE_USER", "guest"),
        password=env.secret("MYTHICAL_QUEUE_PASSWORD", "guest"),
        vhost=env.text("MYTHICAL_QUEUE_VHOST", "/"),
        connection_name=connection_name,
    )
