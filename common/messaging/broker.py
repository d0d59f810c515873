"""Where the broker is and how to talk to it."""

from dataclasses import dataclass, field

from pika import ConnectionParameters, PlainCredentials  # type: ignore[import-untyped]  # pika ships no py.typed

CONNECT_TIMEOUT_S = 5.0
HANDSHAKE_TIMEOUT_S = 10.0
# Long, because giving up on a blocked connection helps nobody: the next one is blocked as well.
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
        """What pika needs to connect once; `role` tells the connections of one process apart in the broker's lists."""
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
