"""Receiving messages, in orders a real broker shows only by chance."""

from typing import Any, cast

from common.messaging.connection import IOLoopThread
from common.messaging.consumer import DeliveryReceiver
from common.messaging.topology import Broker


class Silent:
    """Stands in for a channel and for the thread: accepts everything and answers nothing."""

    is_open = True

    def __getattr__(self, _name: str) -> Any:
        return lambda *_, **__: self

    def basic_consume(self, *_: Any, callback: Any) -> str:
        """Agree at once."""
        callback(None)
        return "tag"


def test_a_connection_lost_while_it_stops_is_a_stop() -> None:
    """The answer to the cancel will never come; waiting for it would take all the time that there is for the end."""
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
