"""A broker that keeps the connection and does not answer: the client reconnects, and the reason is logged."""

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

# AMQP 0-9-1: class and method of the broker's answers.
CHANNEL_OPEN_OK, DECLARE_OK, CONFIRM_SELECT_OK, CONSUME_OK = (20, 11), (50, 11), (85, 11), (60, 21)

_FRAME = struct.Struct(">BHL")  # type, channel, payload size; one byte follows the payload
_METHOD = struct.Struct(">HH")  # class, method
METHOD_FRAME = 1


class Withholding:
    """Stands between a client and the broker, and keeps one kind of answer back, of the first connection only."""

    def __init__(self, port: int, answer: tuple[int, int]) -> None:
        self.kept_back = 0
        self._port = port
        self._answer = answer
        self._sockets: list[socket.socket] = []
        self._listening = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listening.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        """End all connections, and wait for the threads."""
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
        first = True
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                broker = socket.create_connection((LOOPBACK, self._port))
                self._sockets += (client, broker)
                for pump in ((self._there, (client, broker)), (self._back, (broker, client, first))):
                    self._threads.append(threading.Thread(target=pump[0], args=pump[1]))
                    self._threads[-1].start()
                first = False

    def _there(self, client: socket.socket, broker: socket.socket) -> None:
        with suppress(OSError):
            while piece := client.recv(65536):
                broker.sendall(piece)
        with suppress(OSError):
            broker.shutdown(socket.SHUT_RDWR)

    def _back(self, broker: socket.socket, client: socket.socket, withhold: bool) -> None:
        with suppress(OSError), broker.makefile("rb") as frames:
            while head := frames.read(_FRAME.size):
                kind, _channel, size = _FRAME.unpack(head)
                rest = frames.read(size + 1)
                if withhold and kind == METHOD_FRAME and _METHOD.unpack_from(rest) == self._answer:
                    self.kept_back += 1
                else:
                    client.sendall(head + rest)


Between = Callable[[tuple[int, int]], Withholding]


@pytest.fixture
def between(rabbitmq: RabbitMQ) -> Iterator[Between]:
    """Give what stands before the session's broker and keeps an answer back."""
    made: list[Withholding] = []

    def stand(answer: tuple[int, int]) -> Withholding:
        made.append(Withholding(rabbitmq.port, answer))
        return made[-1]

    yield stand
    for each in made:
        each.close()


@pytest.fixture
def rig(rabbitmq: RabbitMQ, between: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:  # noqa: ARG001 - to be closed before that
    """A queue of its own on the session's broker, and little patience."""
    monkeypatch.setattr(connection, "SET_UP_S", 0.5)
    made = Rig(rabbitmq)
    yield made
    made.clear()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(CHANNEL_OPEN_OK, id="channel"),
        pytest.param(DECLARE_OK, id="declaration"),
        pytest.param(CONFIRM_SELECT_OK, id="confirms"),
    ],
)
def test_a_publisher_that_gets_no_answer_reconnects(
    rig: Rig, between: Between, answer: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    """Heartbeats alone would keep it waiting forever."""
    broker = between(answer)
    with caplog.at_level(logging.INFO, "common.messaging"):
        publisher = rig.publisher(broker=replace(rig.broker, port=broker.port), wait=False)
        publisher.publish("GET /unicorn").result(60)
    assert broker.kept_back == 1
    reasons = [record.fields["reason"] for record in caplog.records if record.msg == "broker unavailable"]  # type: ignore[attr-defined]
    assert [f"no answer about '{rig.queue}' within 0.5 s" in reason for reason in reasons] == [True]


def test_a_consumer_that_gets_no_answer_reconnects(rig: Rig, between: Between) -> None:
    """What waits in the queue is handled after all."""
    rig.publisher().publish("GET /unicorn", message_id="kept").result(60)
    broker = between(CONSUME_OK)
    rig.broker = replace(rig.broker, port=broker.port)
    recorder = Recorder()
    consumer = rig.consumer(recorder, wait=False)
    until(lambda: consumer.ready and "kept" in recorder.ids)
    assert broker.kept_back == 1
