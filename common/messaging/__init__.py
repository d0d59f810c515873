"""Messages over RabbitMQ that are not lost: confirmed publishing, acknowledged work, retries, dead letters."""

from common.messaging.consumer import Consumer
from common.messaging.errors import (
    BrokerBlocked,
    BrokerUnavailable,
    MessagingError,
    NotConfirmed,
    PoisonMessage,
    PublisherClosed,
    QueueMismatch,
    TooManyInFlight,
    Unroutable,
)
from common.messaging.headers import Message
from common.messaging.publisher import Publisher
from common.messaging.settings import Broker

__all__ = [
    "Broker",
    "BrokerBlocked",
    "BrokerUnavailable",
    "Consumer",
    "Message",
    "MessagingError",
    "NotConfirmed",
    "PoisonMessage",
    "Publisher",
    "PublisherClosed",
    "QueueMismatch",
    "TooManyInFlight",
    "Unroutable",
]
