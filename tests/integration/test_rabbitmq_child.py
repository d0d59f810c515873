"""RabbitMQ as a private child, on the real server."""

import os
import signal
import time
from pathlib import Path

import pika  # type: ignore[import-untyped]
import psutil
import pytest

from local.errors import LocalError
from local.ports import answers
from local.servers.rabbitmq import RabbitMQ
from tests.integration.messaging_support import wait_registered
from tests.integration.running import STOP_S

QUEUE = "kept"
PERSISTENT = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent)


@pytest.fixture
def folder(servers_folder: Path, request: pytest.FixtureRequest) -> Path:
    """Give a folder of this test's own."""
    return servers_folder / str(request.node.name)


def put(broker: RabbitMQ, body: bytes) -> None:
    """Publish a persistent message to a durable queue, confirmed."""
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        channel = connection.channel()
        channel.queue_declare(QUEUE, durable=True)
        channel.confirm_delivery()
        channel.basic_publish("", QUEUE, body, PERSISTENT, mandatory=True)


def take(broker: RabbitMQ) -> bytes | None:
    """Get one message, or None."""
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        body: bytes | None = connection.channel().basic_get(QUEUE, auto_ack=True)[2]
        return body


def of_folder(folder: Path) -> list[str]:
    """Return the commands of all processes whose environment names `folder`: the broker, its mapper, its helpers."""
    return [
        " ".join(process.info["cmdline"] or [])
        for process in psutil.process_iter(["cmdline", "environ"])
        if (process.info["environ"] or {}).get("HOME") == str(folder)
    ]


def test_a_stopped_broker_leaves_no_process_and_keeps_its_messages(folder: Path) -> None:
    """Erlang's port mapper, which a broker leaves behind elsewhere, ends with it too."""
    broker = RabbitMQ(folder).start()
    put(broker, b"before the stop")
    assert of_folder(folder)
    broker.stop(STOP_S)
    assert broker.process.exit_code == 0
    assert not answers(broker.port)
    assert of_folder(folder) == []
    with broker:
        assert take(broker) == b"before the stop"


def test_a_killed_broker_keeps_confirmed_messages(folder: Path) -> None:
    """SIGKILL is a power cut: on the same port, the confirmed message is there."""
    broker = RabbitMQ(folder).start()
    put(broker, b"before the crash")
    port = broker.port
    wait_registered(time.monotonic())
    broker.kill()
    assert not answers(port)
    with broker:
        assert broker.port == port
        assert take(broker) == b"before the crash"


def test_the_orphan_of_a_crashed_run_is_replaced(folder: Path) -> None:
    """The next run with the same folder ends the broker that the crashed one left, and takes its data over."""
    lost = RabbitMQ(folder).start()
    put(lost, b"from the crashed run")
    assert lost.process.pid is not None
    with RabbitMQ(folder) as broker:
        assert lost.process.wait(60)
        lost.stop()
        assert take(broker) == b"from the crashed run"
        mappers = [command for command in of_folder(folder) if "epmd" in command and "beam" not in command]
        assert len(mappers) == 1


def test_a_broker_killed_from_outside_starts_again(folder: Path) -> None:
    """The mapper outlives the broker then, and serves the next one."""
    broker = RabbitMQ(folder).start()
    assert broker.process.pid is not None
    os.kill(broker.process.pid, signal.SIGKILL)
    assert broker.process.wait(60)
    with broker:
        assert broker.is_ready()


def test_it_takes_the_default_user(rabbitmq: RabbitMQ) -> None:
    """The handshake that readiness goes by is followed by a login that works."""
    with pika.BlockingConnection(pika.URLParameters(rabbitmq.url)) as connection:
        assert connection.is_open


def test_a_broker_that_cannot_start_says_why(folder: Path) -> None:
    """The error is one line that names the log, and the log's end tells the cause."""
    folder.mkdir()
    (folder / "data").write_text("not a folder")
    broker = RabbitMQ(folder)
    with pytest.raises(LocalError, match="rabbitmq ended immediately") as caught:
        broker.start()
    broker.stop(STOP_S)
    assert "\n" not in str(caught.value)
    assert "fail" in caught.value.detail


def test_a_taken_port_is_not_mistaken_for_a_ready_broker(folder: Path, rabbitmq: RabbitMQ) -> None:
    """Another broker answers there; ours has not started and says so."""
    with pytest.raises(LocalError, match=f"port {rabbitmq.port} of rabbitmq is in use"):
        RabbitMQ(folder, port=rabbitmq.port).start()
