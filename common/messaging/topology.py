"""The broker's address and its three queues: their names and what they guarantee. Needs no AMQP library."""

from dataclasses import dataclass, field

from common.core.address import join_host_port
from common.core.env import Env

MAX_DEAD = 10_000
MAX_DEAD_BYTES = 64 * 1024 * 1024


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
        return join_host_port(self.host, self.port)


def broker(env: Env, connection_name: str) -> Broker:
    """Read the broker's settings; `connection_name` is what the management page shows. Raises SettingsError."""
    return Broker(
        host=env.host("MYTHICAL_QUEUE_HOST", "mythical-queue"),
        port=env.port("MYTHICAL_QUEUE_HOST_PORT", 5672),
        user=env.text("MYTHICAL_QUEUE_USER", "guest"),
        password=env.secret("MYTHICAL_QUEUE_PASSWORD", "guest"),
        vhost=env.text("MYTHICAL_QUEUE_VHOST", "/"),
        connection_name=connection_name,
    )


@dataclass(frozen=True)
class Queue:
    """A durable queue of the default exchange with its x-arguments."""

    name: str
    arguments: dict[str, str | int] = field(default_factory=dict)


def retry_name(name: str) -> str:
    """Return the queue where a failed message of queue `name` waits before its next attempt."""
    return f"{name}.retry"


def dead_name(name: str) -> str:
    """Return the dead-letter queue of queue `name`."""
    return f"{name}.dead"


def work_queue(name: str) -> Queue:
    """Return the queue that is consumed: durable and without arguments, as any other AMQP client declares it.

    The broker rejects a second declaration with other arguments, so these would be part of the interface. What they
    would add is done by the consumer (retry, dead letters, the limit of redeliveries) or by an operator's policy.
    """
    return Queue(name)


def retry_queue(name: str, delay_s: float) -> Queue:
    """Return the delay queue of queue `name`: nothing consumes it, after `delay_s` the broker moves the message back.

    At-least-once dead-lettering (RabbitMQ 3.10 and later) needs a quorum queue with `reject-publish`; with the default
    strategy a message would be lost if the broker stopped between removing it here and storing it there.
    """
    arguments: dict[str, str | int] = {
        "x-queue-type": "quorum",
        "x-message-ttl": round(delay_s * 1000),
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": name,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    return Queue(retry_name(name), arguments)


def dead_queue(name: str) -> Queue:
    """Return the dead-letter queue of `name`: bounded, the oldest are dropped first, as it may be unread for weeks."""
    arguments: dict[str, str | int] = {
        "x-queue-type": "quorum",
        "x-max-length": MAX_DEAD,
        "x-max-length-bytes": MAX_DEAD_BYTES,
        "x-overflow": "drop-head",
    }
    return Queue(dead_name(name), arguments)
