"""Names and attributes of the two spans a message makes."""

from opentelemetry.trace import Span, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from common.messaging.broker import Broker

# Names the suite's traces have always had; the conventions would say "publish messages" and "process messages".
PUBLISH_SPAN = "publish_to_queue"
PROCESS_SPAN = "process_message"

Attributes = dict[str, AttributeValue]


def publish_attributes(broker: Broker, queue: str, message_id: str, size: int) -> Attributes:
    """What the producer span says (OpenTelemetry semantic conventions, messaging and RabbitMQ)."""
    return _attributes(broker, queue, ("send", "publish"), message_id, size)


def process_attributes(broker: Broker, queue: str, message_id: str | None, size: int, tag: int) -> Attributes:
    """What the consumer span says; `tag` is the delivery tag, unique only within its channel."""
    attributes = _attributes(broker, queue, ("process", "process"), message_id, size)
    attributes["messaging.rabbitmq.message.delivery_tag"] = tag
    return attributes


def mark_failed(span: Span, error: BaseException) -> None:
    """Status ERROR and error.type, as the conventions ask for."""
    span.set_attribute("error.type", error_type(error))
    span.set_status(Status(StatusCode.ERROR, error_type(error)))


def error_type(error: BaseException) -> str:
    """The class name: a bounded set, unlike the text, which may quote what was sent to us."""
    return type(error).__qualname__


def _attributes(
    broker: Broker, queue: str, operation: tuple[str, str], message_id: str | None, size: int
) -> Attributes:
    kind, name = operation
    attributes: Attributes = {
        "messaging.system": "rabbitmq",
        "messaging.operation.type": kind,
        "messaging.operation.name": name,
        "messaging.destination.name": queue,
        "messaging.rabbitmq.destination.routing_key": queue,
        "messaging.message.body.size": size,
        "server.address": broker.host,
        "server.port": broker.port,
    }
    if message_id is not None:
        attributes["messaging.message.id"] = message_id
    return attributes
