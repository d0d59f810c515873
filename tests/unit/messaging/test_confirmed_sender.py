"""Confirms, returns, and reconnects are handled in orders that a real broker rarely produces."""

import math
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pika import BasicProperties  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.spec import Basic  # type: ignore[import-untyped]  # pika ships no py.typed

from common.messaging.connection import ConfirmedSender, IOLoopThread, Outgoing
from common.messaging.errors import BrokerBlocked, BrokerUnavailable, MessagingError, NotConfirmed, Unroutable
from common.messaging.topology import Broker

RETURNED = Basic.Return(routing_key="messages")


class FakeChannel:
    """A channel in confirm mode that records messages and confirms them when the test says so."""

    is_open = True

    def __init__(self) -> None:
        self.sent: list[str] = []

    return_message: Callable[..., None]
    confirm: Callable[[Any], None]

    def add_on_return_callback(self, callback: Callable[..., None]) -> None:
        """Store the callback for returned messages."""
        self.return_message = callback

    def confirm_delivery(self, on_confirm: Callable[..., None], callback: Callable[..., None]) -> None:
        """Accept at once."""
        self.confirm = lambda method: on_confirm(SimpleNamespace(method=method))
        callback(None)

    def basic_publish(self, _exchange: str, _queue: str, _body: bytes, properties: Any, **_: Any) -> None:
        """Record the message."""
        self.sent.append(properties.message_id)

    def queue_declare(self, *_: Any, **__: Any) -> None:
        """Do nothing."""


class UnstartedThread:
    """A loop thread that does not run."""

    def register(self, _connection: object) -> None:
        """Open no connection."""

    def call_later(self, _delay_s: float, _work: Callable[[], None]) -> None:
        """Do not call it."""


class Bench:
    """A sender without a running thread: the test calls its methods."""

    def __init__(self) -> None:
        self.sender = ConfirmedSender(cast(IOLoopThread, UnstartedThread()), Broker("mq"), "test", [])
        self.results: dict[str, MessagingError | None] = {}

    def connect(self) -> FakeChannel:
        """Return a new channel that is ready."""
        channel = FakeChannel()
        self.sender.on_channel_open(channel)
        return channel

    def send(self, *names: str, deadline: float = math.inf) -> None:
        """Send messages with these IDs."""
        for name in names:
            done = lambda error, name=name: self.results.__setitem__(name, error)  # noqa: E731 - short, and only here
            self.sender.send(Outgoing("messages", b"", BasicProperties(message_id=name), deadline, done))


def test_messages_wait_for_a_connection_and_are_sent_in_order() -> None:
    """Nothing is sent before the broker accepts confirm mode."""
    bench = Bench()
    bench.send("a", "b")
    assert bench.connect().sent == ["a", "b"]
    assert bench.results == {}


def test_one_confirm_may_cover_several_messages() -> None:
    """multiple=True confirms every delivery tag up to it, in the order sent."""
    bench = Bench()
    channel = bench.connect()
    bench.send("a", "b", "c", "d")
    channel.confirm(Basic.Ack(2, multiple=False))
    channel.confirm(Basic.Ack(3, multiple=True))
    assert bench.results == {"b": None, "a": None, "c": None}


def test_a_negative_confirm_may_cover_several_messages() -> None:
    """Basic.Nack means that the broker did not store them; the caller gets an error."""
    bench = Bench()
    channel = bench.connect()
    bench.send("a", "b", "c")
    channel.confirm(Basic.Nack(2, multiple=True))
    channel.confirm(Basic.Ack(3))
    assert [type(bench.results[name]) for name in "abc"] == [NotConfirmed, NotConfirmed, type(None)]


def test_a_returned_message_is_unroutable_even_if_it_is_confirmed_afterwards() -> None:
    """Basic.Return followed by Basic.Ack means that the broker returned it."""
    bench = Bench()
    channel = bench.connect()
    bench.send("a", "b")
    channel.return_message(channel, RETURNED, BasicProperties(message_id="a"), b"")
    channel.confirm(Basic.Ack(2, multiple=True))
    assert isinstance(bench.results["a"], Unroutable)
    assert bench.results["b"] is None


def test_returned_messages_without_an_id_do_not_count_as_stored() -> None:
    """Senders need not set an ID, and one confirm may cover several messages: a wrong match would lose one."""
    bench, results = Bench(), dict[str, MessagingError | None]()
    channel = bench.connect()
    for queue, body in (("dead", b"a"), ("retry", b"b"), ("retry", b"c"), ("retry", b"c")):
        name = f"{body.decode()}{len(results)}"
        results[name] = NotConfirmed("no result yet")
        done = lambda error, name=name: results.__setitem__(name, error)  # noqa: E731 - short, and only here
        bench.sender.send(Outgoing(queue, body, BasicProperties(), math.inf, done))
    for body in (b"b", b"c", b"c"):
        channel.return_message(channel, Basic.Return(routing_key="retry"), BasicProperties(), body)
    channel.confirm(Basic.Ack(4, multiple=True))
    assert results.pop("a0") is None
    assert {type(error) for error in results.values()} == {Unroutable}


def test_unconfirmed_messages_are_sent_first_on_the_next_connection() -> None:
    """Delivery is at least once: the lost connection may have delivered them. The order is kept."""
    bench = Bench()
    first = bench.connect()
    bench.send("a", "b", "c")
    first.confirm(Basic.Ack(1))
    bench.sender.on_channel_lost()
    bench.send("d")
    second = bench.connect()
    assert second.sent == ["b", "c", "d"]
    second.confirm(Basic.Ack(3, multiple=True))
    assert bench.results == dict.fromkeys("abcd")


def test_the_error_after_the_deadline_depends_on_the_state_of_the_message() -> None:
    """A sent message is NotConfirmed; another one BrokerUnavailable, or BrokerBlocked while the alarm is on."""
    bench = Bench()
    channel = bench.connect()
    bench.send("sent", deadline=time.monotonic())
    bench.sender.blocked = True
    bench.send("held", deadline=time.monotonic())
    assert channel.sent == ["sent"]
    bench.sender.fail_all()
    assert type(bench.results["sent"]) is NotConfirmed
    assert type(bench.results["held"]) is BrokerBlocked
    bench.sender.blocked = False
    bench.sender.on_channel_lost()
    bench.send("unavailable")
    bench.sender.fail_all()
    assert type(bench.results["unavailable"]) is BrokerUnavailable


@pytest.mark.parametrize("method", [Basic.Ack(1), Basic.Nack(1)])
def test_a_confirm_after_the_deadline_is_ignored(method: Any) -> None:
    """The caller already got an error, and only one result is allowed."""
    bench = Bench()
    channel = bench.connect()
    bench.send("a")
    bench.sender.fail_all()
    channel.confirm(method)
    assert isinstance(bench.results["a"], NotConfirmed)


def test_nothing_is_sent_while_the_alarm_is_on() -> None:
    """The broker does not read, so messages would accumulate in the socket."""
    bench = Bench()
    channel = bench.connect()
    bench.sender.blocked = True
    bench.send("a")
    assert channel.sent == []
    bench.sender.blocked = False
    bench.sender.send_waiting()
    assert channel.sent == ["a"]
