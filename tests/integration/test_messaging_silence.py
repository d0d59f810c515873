"""With a broker that keeps the connection open but doesn't reply, clients reconnect and log the reason."""

import logging
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace

import pytest

from common.messaging import connection
from local.ports import LOOPBACK
from local.servers.rabbitmq import RabbitMQ
from tests.integration.messaging_support import Recorder, Rig, until

# AMQP 0-9-1: class and method of the broker's replies.
CHANNEL_OPEN_OK, DECLARE_OK, CONFIRM_SELECT_OK, CONSUME_OK = (20, 11), (50, 11), (85, 11), (60, 21)

_FRAME = struct.Struct(">BHL")  # type, channel, payload size; one byte follows the payload
_METHOD = struct.Struct(">HH")  # class, method
METHOD_FRAME = 1


class ReplyFilter:
    """A proxy before the broker that drops the first reply of one kind.

    Not necessarily on the first connection: a busy broker may take longer to reply than the client waits.
    """

    def __init__(self, port: int, reply: tuple[int, int]) -> None:
        self.dropped = 0
        self._port = port
        self._reply = reply
        self._sockets: list[socket.socket] = []
        self._listening = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listening.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        """Close all connections, and wait for the threads."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._threads[0].join()
        for end in self._sockets:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()
        for end in self._sockets:
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                broker = socket.create_connection((LOOPBACK, self._port))
                self._sockets += (client, broker)
                for pump in ((self._forward, (client, broker)), (self._filter, (broker, client))):
                    self._threads.append(threading.Thread(target=pump[0], args=pump[1]))
                    self._threads[-1].start()

    def _forward(self, client: socket.socket, broker: socket.socket) -> None:
        with suppress(OSError):
            while piece := client.recv(65536):
                broker.sendall(piece)
        with suppress(OSError):
            broker.shutdown(socket.SHUT_RDWR)

    def _filter(self, broker: socket.socket, client: socket.socket) -> None:
        with suppress(OSError), broker.makefile("rb") as frames:
            while head := frames.read(_FRAME.size):
                kind, _channel, size = _FRAME.unpack(head)
                rest = frames.read(size + 1)
                if not self.dropped and kind == METHOD_FRAME and _METHOD.unpack_from(rest) == self._reply:
                    self.dropped += 1
                else:
                    client.sendall(head + rest)


StartFilter = Callable[[tuple[int, int]], ReplyFilter]


@pytest.fixture
def start_filter(rabbitmq: RabbitMQ) -> Iterator[StartFilter]:
    """A function that starts a proxy before the session's broker that drops a reply."""
    created: list[ReplyFilter] = []

    def start(reply: tuple[int, int]) -> ReplyFilter:
        created.append(ReplyFilter(rabbitmq.port, reply))
        return created[-1]

    yield start
    for each in created:
        each.close()


@pytest.fixture
def rig(rabbitmq: RabbitMQ, start_filter: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:  # noqa: ARG001 - closed before the filters
    """A separate queue on the session's broker, with a short timeout."""
    monkeypatch.setattr(connection, "SET_UP_S", 0.5)
    created = Rig(rabbitmq)
    yield created
    created.clear()


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(CHANNEL_OPEN_OK, id="channel"),
        pytest.param(DECLARE_OK, id="declaration"),
        pytest.param(CONFIRM_SELECT_OK, id="confirms"),
    ],
)
def test_a_publisher_without_a_reply_reconnects(
    rig: Rig, start_filter: StartFilter, reply: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    """With heartbeats alone it would wait forever."""
    broker = start_filter(reply)
    with caplog.at_level(logging.INFO, "common.messaging"):
        publisher = rig.publisher(broker=replace(rig.broker, port=broker.port), wait=False)
        publisher.publish("GET /unicorn").result(60)
    assert broker.dropped == 1
    reasons = [record.fields["reason"] for record in caplog.records if record.msg == "broker unavailable"]  # type: ignore[attr-defined]
    assert [f"no answer about '{rig.queue}' within 0.5 s" in reason for reason in reasons] == [True]


def test_a_consumer_without_a_reply_reconnects(rig: Rig, start_filter: StartFilter) -> None:
    """The waiting message is then handled."""
    rig.publisher().publish("GET /unicorn", message_id="kept").result(60)
    broker = start_filter(CONSUME_OK)
    rig.broker = replace(rig.broker, port=broker.port)
    recorder = Recorder()
    consumer = rig.consumer(recorder, wait=False)
    until(lambda: consumer.ready and "kept" in recorder.ids)
    assert broker.dropped == 1
