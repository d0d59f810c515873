"""Address and credentials of the broker, and how to read them from the environment."""

from dataclasses import dataclass, field

from pika import ConnectionParameters, PlainCredentials  # type: ignore[import-untyped]  # pika ships no py.typed

from common.core.env import Env

CONNECT_TIMEOUT_S = 5.0
HANDSHAKE_TIMEOUT_S = 10.0
# Long: reconnecting does not help while the alarm is on, the next connection is blocked as well.
BLOCKED_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Broker:
    """Address, login and heartbeat of a RabbitMQ server; its repr is safe to log."""

    host: str
    port: int = 5672
    user: str = "guest"
    password: str = field(default="guest", repr=False)
    vhost: str = "/"
    heartbeat_s: int = 10
    connection_name: str = ""

    @property
    def address(self) -> str:
        """host:port, for messages to people."""
        return f"{self.host}:{self.port}"

    def parameters(self, role: str) -> ConnectionParameters:
        """Return pika's parameters for one attempt to connect; `role` becomes part of the connection's name."""
        return ConnectionParameters(
            host=self.host,
            port=self.port,
            virtual_host=self.vhost,
            credentials=PlainCredentials(self.user, self.password),
            heartbeat=self.heartbeat_s,
            connection_attempts=1,
            retry_delay=0,
            socket_timeout=CONNECT_TIMEOUT_S,
            stack_timeout=HANDSHAKE_TIMEOUT_S,
            blocked_connection_timeout=BLOCKED_TIMEOUT_S,
            client_properties={"connection_name": f"{self.connection_name} {role}".strip()},
        )


def broker(env: Env, connection_name: str) -> Broker:
    """Read the broker's settings; `connection_name` is what the management page shows. Raises SettingsError."""
    return Broker(
        host=env.text("MYTHICAL_QUEUE_HOST", "mythical-queue"),
        port=env.port("MYTHICAL_QUEUE_HOST_PORT", 5672),
        user=env.text("MYTHICAL_QUEUE_USER", "guest"),
        password=env.secret("MYTHICAL_QUEUE_PASSWORD", "guest"),
        vhost=env.text("MYTHICAL_QUEUE_VHOST", "/"),
        connection_name=connection_name,
    )
