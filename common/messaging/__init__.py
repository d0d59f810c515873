"""Messages over RabbitMQ that are not lost: confirmed publishing, acknowledged work, retries, dead letters."""

from common.messaging.broker import Broker
from common.messaging.consumer import Consumer
from common.messaging.errors import (
    BrokerBlocked,
    BrokerUnavailable,
    MessagingError,
    NotConfirmed,
    Poison,
    PublisherClosed,
    QueueMismatch,
    TooManyInFlight,
    Unroutable,
)
from common.messaging.message import Message
from common.messaging.publisher import Publisher

__all__ = [
    "Broker",
    "BrokerBlocked",
    "BrokerUnavailable",
    "Consumer",
    "Message",
    "MessagingError",
    "NotConfirmed",
    "Poison",
    "Publisher",
    "PublisherClosed",
    "QueueMismatch",
    "TooManyInFlight",
    "Unroutable",
]
