"""Messages that cannot be processed are dead-lettered, queues with other arguments are reported; the rest works."""

from collections.abc import Iterator
from typing import Any

import pika  # type: ignore[import-untyped]  # pika ships no py.typed
import pytest

from local.servers.rabbitmq import RabbitMQ
from tests.failure.conftest import Measured
from tests.failure.publishing import QUICK, publishing, recorded
from tests.integration.conftest import Service, eventually
from tests.integration.recording_server import recording_server
from tests.integration.service_support import (
    SILENT,
    Fleet,
    ask,
    broker_settings,
    channel,
    clear_queues,
    fleet,
    ready_messages,
)

pytestmark = pytest.mark.timeout(120)

# Bodies that no retry can fix, each with a part of the reason in the dead-letter queue.
POISON = {
    b"nonsense": "not about a beast",
    b"GET /dragon": "not about a beast",
    b"": "not about a beast",
    b"GET /unicorn\x00": "not about a beast",
    b"\xff\xfe\x00GET": "not UTF-8",
    "GET /unicörn".encode("latin-1"): "not UTF-8",
    b"x" * 65_537: "limit is 65536",
    b"GET /unicorn " + b"x" * 1_000_000: "limit is 65536",  # 25 of them fit into the bounds of the dead-letter queue
}
ROUNDS = 25


@pytest.fixture
def started(tmp_path_factory: pytest.TempPathFactory, rabbitmq: RabbitMQ) -> Iterator[Fleet]:
    """Services on a broker without queues."""
    clear_queues(rabbitmq)
    with fleet(tmp_path_factory.mktemp("rejected"), SILENT, broker_settings(rabbitmq), QUICK) as services:
        yield services
    clear_queues(rabbitmq)


def drain_dead_letters(rabbitmq: RabbitMQ) -> list[tuple[Any, bytes]]:
    """Consume all messages of the dead-letter queue; return their properties and bodies."""
    messages = []
    with channel(rabbitmq) as on:
        while (got := on.basic_get("messages.dead", auto_ack=True))[0] is not None:
            messages.append((got[1], got[2]))
    return messages


def test_every_kind_of_poison_message_is_dead_lettered_under_load(
    started: Fleet, rabbitmq: RabbitMQ, measured: Measured
) -> None:
    """Each is in the dead-letter queue once, with its body and the reason; every valid message is recorded by id."""
    recorder = started.start("recorder")
    with publishing(rabbitmq, rate=100) as load, channel(rabbitmq) as on:
        for _ in range(ROUNDS):
            for body in POISON:
                on.basic_publish("", "messages", body, pika.BasicProperties(delivery_mode=2))
            # A valid message of a client that sends neither headers nor an id.
            on.basic_publish("", "messages", b"GET /manticore")
    eventually(lambda: ready_messages(rabbitmq, "messages.dead") == ROUNDS * len(POISON), 60)
    eventually(lambda: load.confirmed <= set(recorded([recorder.process.log])))
    log = recorder.process.log.read_text(encoding="utf-8")
    dead_letters = drain_dead_letters(rabbitmq)
    measured(
        f"{len(dead_letters)} of {ROUNDS * len(POISON)} poison messages of {len(POISON)} kinds in messages.dead, "
        f"{len(load.confirmed)} valid ones recorded meanwhile, none lost; {ready_messages(rabbitmq, 'messages')} left"
    )
    for properties, body in dead_letters:
        assert POISON[body] in properties.headers["x-reason"]
    assert log.count('msg="poison message"') == len(dead_letters)
    eventually(lambda: log_of(recorder).count('msg="message recorded"') == len(load.confirmed) + ROUNDS)
    assert ready_messages(rabbitmq, "messages") == ready_messages(rabbitmq, "messages.retry") == 0
    assert "Traceback" not in log


def log_of(service: Service) -> str:
    """Return the log of a service so far."""
    return service.process.log.read_text(encoding="utf-8")


def test_a_queue_with_other_arguments_is_reported_with_the_fix_until_it_is_deleted(
    started: Fleet, rabbitmq: RabbitMQ, measured: Measured
) -> None:
    """An earlier version declared it: readiness and log show the difference and the fix; then both recover."""
    with channel(rabbitmq) as on:
        on.queue_declare("messages", durable=True, arguments={"x-queue-type": "quorum"})
        on.basic_publish("", "messages", b"of another client")
    with recording_server() as server:
        recorder = started.launch("recorder", until="/healthz")
        requester = started.launch("requester", until="/healthz", **server.settings, REQUESTER_START="0")
        started.ready()
        reported = {}
        for name, service in (("recorder", recorder), ("requester", requester)):
            eventually(lambda service=service: "declared differently" in ask(service.base_url, "/readyz").text)  # type: ignore[misc]
            reported[name] = ask(service.base_url, "/readyz").text
            assert "queue 'messages'" in reported[name]
            assert "rabbitmqctl delete_queue messages" in reported[name]
            eventually(lambda service=service: "declared differently" in log_of(service))  # type: ignore[misc]
        before = len(server.requests)
        eventually(lambda: len(server.requests) > before + 20)
        assert ready_messages(rabbitmq, "messages") == 1
        with channel(rabbitmq) as on:
            on.queue_delete("messages")
        for service in (recorder, requester):
            eventually(lambda service=service: ask(service.base_url, "/readyz").status == 200)  # type: ignore[misc]
        eventually(lambda: "message recorded" in log_of(recorder))
    measured(f"both report: {reported['recorder'].strip()}")


def test_a_retry_delay_that_differs_from_the_queues_is_rejected_with_the_fix(
    started: Fleet, rabbitmq: RabbitMQ, measured: Measured
) -> None:
    """RECORDER_RETRY_DELAY was changed after the broker's queue had been declared."""
    first = started.start("recorder", RECORDER_RETRY_DELAY="2.5")
    assert first.stop() == 0
    other = started.start("recorder", until="/healthz", RECORDER_RETRY_DELAY="4")
    eventually(lambda: "declared differently" in ask(other.base_url, "/readyz").text)
    reported = ask(other.base_url, "/readyz").text
    measured(f"it reports: {reported.strip()}")
    assert "set the retry delay back to 2.5 s, or delete the queue once it is empty" in reported
    assert "rabbitmqctl delete_queue messages.retry" in reported
    with channel(rabbitmq) as on:
        on.queue_delete("messages.retry")
    eventually(lambda: ask(other.base_url, "/readyz").status == 200)
