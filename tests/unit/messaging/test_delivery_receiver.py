"""Deliveries are tracked in orders that a real broker rarely produces."""

from typing import Any, cast

from pika import BasicProperties  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.spec import Basic  # type: ignore[import-untyped]  # pika ships no py.typed

from common.messaging.connection import IOLoopThread
from common.messaging.consumer import DeliveryReceiver
from common.messaging.topology import Broker


class Silent:
    """A channel and a thread that accept everything and never respond."""

    is_open = True

    def __getattr__(self, _name: str) -> Any:
        return lambda *_, **__: self

    def basic_consume(self, _queue: str, on_message: Any, callback: Any) -> str:
        """Accept at once."""
        self.deliver = on_message
        callback(None)
        return "tag"


def test_the_oldest_message_is_the_one_that_was_sent_first() -> None:
    """Only unacknowledged messages count. A lost connection leaves none, because the broker redelivers all of them."""
    silent: Any = Silent()
    received: list[Any] = []
    receiver = DeliveryReceiver(
        cast(IOLoopThread, silent), Broker("mq"), "messages", prefetch=9, on_delivery=received.append
    )
    receiver.on_channel_open(silent)

    def state() -> tuple[int, float | None]:
        return receiver.unacked, receiver.oldest

    assert state() == (0, None)
    for tag, headers in enumerate(({"x-sent-ms": 5000}, {"x-sent-ms": 4000}, {})):
        silent.deliver(
            silent, Basic.Deliver(delivery_tag=tag, redelivered=False), BasicProperties(headers=headers), b""
        )
    assert state() == (3, 4.0)
    receiver.acknowledge(received[1])
    assert state() == (2, 5.0)
    receiver.on_channel_lost()
    assert state() == (0, None)


def test_a_connection_lost_while_stopping_completes_the_stop() -> None:
    """The response to the cancel never arrives; waiting for it would use up the time for the shutdown."""
    silent: Any = Silent()
    receiver = DeliveryReceiver(
        cast(IOLoopThread, silent), Broker("mq"), "messages", prefetch=1, on_delivery=lambda _: None
    )
    receiver.on_channel_open(silent)
    assert receiver.ready
    calls: list[str] = []
    receiver.stop(lambda: calls.append("stopped"))
    assert calls == []
    receiver.on_channel_lost()
    assert calls == ["stopped"]
