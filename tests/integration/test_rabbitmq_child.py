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


def publish(broker: RabbitMQ, body: bytes) -> None:
    """Publish a persistent message to a durable queue, and wait for the confirm."""
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        channel = connection.channel()
        channel.queue_declare(QUEUE, durable=True)
        channel.confirm_delivery()
        channel.basic_publish("", QUEUE, body, PERSISTENT, mandatory=True)


def get(broker: RabbitMQ) -> bytes | None:
    """Return one message, or None."""
    with pika.BlockingConnection(pika.URLParameters(broker.url)) as connection:
        body: bytes | None = connection.channel().basic_get(QUEUE, auto_ack=True)[2]
        return body


def commands_of(folder: Path) -> list[str]:
    """Return the commands of all processes with `folder` in their environment: broker, port mapper, helpers."""
    return [
        " ".join(process.info["cmdline"] or [])
        for process in psutil.process_iter(["cmdline", "environ"])
        if (process.info["environ"] or {}).get("HOME") == str(folder)
    ]


def test_a_stopped_broker_leaves_no_process_and_keeps_its_messages(folder: Path) -> None:
    """Erlang's port mapper, which by default outlives a broker, is stopped too."""
    broker = RabbitMQ(folder).start()
    publish(broker, b"before the stop")
    assert commands_of(folder)
    broker.stop(STOP_S)
    assert broker.process.exit_code == 0
    assert not answers(broker.port)
    assert commands_of(folder) == []
    with broker:
        assert get(broker) == b"before the stop"


def test_a_killed_broker_keeps_confirmed_messages(folder: Path) -> None:
    """After SIGKILL, like a power cut, the confirmed message is there on the same port."""
    broker = RabbitMQ(folder).start()
    publish(broker, b"before the crash")
    port = broker.port
    wait_registered(time.monotonic())
    broker.kill()
    assert not answers(port)
    with broker:
        assert broker.port == port
        assert get(broker) == b"before the crash"


def test_the_orphan_of_a_crashed_run_is_replaced(folder: Path) -> None:
    """The next run with the same folder stops the crashed run's broker, and uses its data."""
    orphan = RabbitMQ(folder).start()
    publish(orphan, b"from the crashed run")
    assert orphan.process.pid is not None
    with RabbitMQ(folder) as broker:
        assert orphan.process.wait(60)
        orphan.stop()
        assert get(broker) == b"from the crashed run"
        mappers = [command for command in commands_of(folder) if "epmd" in command and "beam" not in command]
        assert len(mappers) == 1


def test_a_broker_restarts_after_being_killed(folder: Path) -> None:
    """The port mapper outlives the broker, and the next one uses it."""
    broker = RabbitMQ(folder).start()
    assert broker.process.pid is not None
    os.kill(broker.process.pid, signal.SIGKILL)
    assert broker.process.wait(60)
    with broker:
        assert broker.is_ready()


def test_the_broker_accepts_the_default_user(rabbitmq: RabbitMQ) -> None:
    """Readiness checks only the handshake; the login works too."""
    with pika.BlockingConnection(pika.URLParameters(rabbitmq.url)) as connection:
        assert connection.is_open


def test_a_failed_start_is_reported_with_its_cause(folder: Path) -> None:
    """The error is one line, and its detail has the end of the log with the cause."""
    folder.mkdir()
    (folder / "data").write_text("not a folder")
    broker = RabbitMQ(folder)
    with pytest.raises(LocalError, match="rabbitmq ended immediately") as caught:
        broker.start()
    broker.stop(STOP_S)
    assert "\n" not in str(caught.value)
    assert "fail" in caught.value.detail


def test_another_broker_on_the_port_does_not_count_as_ready(folder: Path, rabbitmq: RabbitMQ) -> None:
    """Another broker answers there; the start fails."""
    with pytest.raises(LocalError, match=f"port {rabbitmq.port} of rabbitmq is in use"):
        RabbitMQ(folder, port=rabbitmq.port).start()
