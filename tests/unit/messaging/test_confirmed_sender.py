"""Confirms, returns and reconnects, in orders a real broker shows only by chance."""

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

BACK = Basic.Return(routing_key="messages")


class Line:
    """Stands in for a channel in confirm mode: notes what is sent, and confirms when told."""

    is_open = True

    def __init__(self) -> None:
        self.sent: list[str] = []

    give_back: Callable[..., None]
    confirm: Callable[[Any], None]

    def add_on_return_callback(self, callback: Callable[..., None]) -> None:
        """How the broker gives a message back."""
        self.give_back = callback

    def confirm_delivery(self, on_confirm: Callable[..., None], callback: Callable[..., None]) -> None:
        """Agree at once."""
        self.confirm = lambda method: on_confirm(SimpleNamespace(method=method))
        callback(None)

    def basic_publish(self, _exchange: str, _queue: str, _body: bytes, properties: Any, **_: Any) -> None:
        """Note the message."""
        self.sent.append(properties.message_id)

    def queue_declare(self, *_: Any, **__: Any) -> None:
        """Never answer."""


class Still:
    """A loop thread that never runs."""

    def register(self, _connection: object) -> None:
        """Nothing is opened."""

    def call_later(self, _delay_s: float, _work: Callable[[], None]) -> None:
        """Never call it."""


class Bench:
    """A sender whose thread does not run: the test stands in for it."""

    def __init__(self) -> None:
        self.sender = ConfirmedSender(cast(IOLoopThread, Still()), Broker("mq"), "test", [])
        self.ended: dict[str, MessagingError | None] = {}

    def connect(self) -> Line:
        """A new connection that is ready."""
        line = Line()
        self.sender.on_channel_open(line)
        return line

    def send(self, *names: str, deadline: float = math.inf) -> None:
        """Send messages with these ids."""
        for name in names:
            done = lambda error, name=name: self.ended.__setitem__(name, error)  # noqa: E731 - short, and only here
            self.sender.send(Outgoing("messages", b"", BasicProperties(message_id=name), deadline, done))


def test_messages_wait_for_a_connection_and_go_out_in_order() -> None:
    """Nothing is sent before the broker agreed to confirm."""
    bench = Bench()
    bench.send("a", "b")
    assert bench.connect().sent == ["a", "b"]
    assert bench.ended == {}


def test_one_confirm_may_settle_many() -> None:
    """multiple=True stands for every delivery tag up to it, in the order sent."""
    bench = Bench()
    line = bench.connect()
    bench.send("a", "b", "c", "d")
    line.confirm(Basic.Ack(2, multiple=False))
    line.confirm(Basic.Ack(3, multiple=True))
    assert bench.ended == {"b": None, "a": None, "c": None}


def test_a_refusal_may_be_for_many_as_well() -> None:
    """Basic.Nack: the broker did not take them; the caller is told and decides."""
    bench = Bench()
    line = bench.connect()
    bench.send("a", "b", "c")
    line.confirm(Basic.Nack(2, multiple=True))
    line.confirm(Basic.Ack(3))
    assert [type(bench.ended[name]) for name in "abc"] == [NotConfirmed, NotConfirmed, type(None)]


def test_a_returned_message_is_unroutable_though_it_is_confirmed_afterwards() -> None:
    """Basic.Return, then Basic.Ack: the broker has handled it, by giving it back."""
    bench = Bench()
    line = bench.connect()
    bench.send("a", "b")
    line.give_back(line, BACK, BasicProperties(message_id="a"), b"")
    line.confirm(Basic.Ack(2, multiple=True))
    assert isinstance(bench.ended["a"], Unroutable)
    assert bench.ended["b"] is None


def test_of_returned_messages_without_an_id_none_passes_for_stored() -> None:
    """Senders need not give an id, and the broker confirms several at once: taken for stored, one would be lost."""
    bench, ended = Bench(), dict[str, MessagingError | None]()
    line = bench.connect()
    for queue, body in (("dead", b"a"), ("retry", b"b"), ("retry", b"c"), ("retry", b"c")):
        name = f"{body.decode()}{len(ended)}"
        ended[name] = NotConfirmed("not heard of yet")
        done = lambda error, name=name: ended.__setitem__(name, error)  # noqa: E731 - short, and only here
        bench.sender.send(Outgoing(queue, body, BasicProperties(), math.inf, done))
    for body in (b"b", b"c", b"c"):
        line.give_back(line, Basic.Return(routing_key="retry"), BasicProperties(), body)
    line.confirm(Basic.Ack(4, multiple=True))
    assert ended.pop("a0") is None
    assert {type(error) for error in ended.values()} == {Unroutable}


def test_what_was_not_confirmed_goes_out_first_on_the_next_connection() -> None:
    """At least once: the lost connection may or may not have delivered it; the order is kept."""
    bench = Bench()
    first = bench.connect()
    bench.send("a", "b", "c")
    first.confirm(Basic.Ack(1))
    bench.sender.on_channel_lost()
    bench.send("d")
    second = bench.connect()
    assert second.sent == ["b", "c", "d"]
    second.confirm(Basic.Ack(3, multiple=True))
    assert bench.ended == dict.fromkeys("abcd")


def test_after_its_deadline_a_message_fails_as_what_is_known_of_it() -> None:
    """Sent: unknown, NotConfirmed. Never sent: BrokerUnavailable, or BrokerBlocked while the alarm is on."""
    bench = Bench()
    line = bench.connect()
    bench.send("sent", deadline=time.monotonic())
    bench.sender.blocked = True
    bench.send("held", deadline=time.monotonic())
    assert line.sent == ["sent"]
    bench.sender.fail_all()
    assert type(bench.ended["sent"]) is NotConfirmed
    assert type(bench.ended["held"]) is BrokerBlocked
    bench.sender.blocked = False
    bench.sender.on_channel_lost()
    bench.send("away")
    bench.sender.fail_all()
    assert type(bench.ended["away"]) is BrokerUnavailable


@pytest.mark.parametrize("method", [Basic.Ack(1), Basic.Nack(1)])
def test_an_answer_after_the_deadline_is_ignored(method: Any) -> None:
    """The caller was told already, and once is enough."""
    bench = Bench()
    line = bench.connect()
    bench.send("a")
    bench.sender.fail_all()
    line.confirm(method)
    assert isinstance(bench.ended["a"], NotConfirmed)


def test_nothing_is_sent_while_the_alarm_is_on() -> None:
    """The broker does not read: messages would pile up unseen in the socket."""
    bench = Bench()
    line = bench.connect()
    bench.sender.blocked = True
    bench.send("a")
    assert line.sent == []
    bench.sender.blocked = False
    bench.sender.send_waiting()
    assert line.sent == ["a"]
