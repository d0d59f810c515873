"""The recorder on a real broker: counted and dead-lettered messages, and no losses when a part stops."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika  # type: ignore[import-untyped]  # pika ships no py.typed
import pytest

from local.ports import LOOPBACK
from local.servers.rabbitmq import RabbitMQ
from tests.integration.conftest import DEADLINE_S, Gateway, eventually
from tests.integration.messaging_support import wait_registered
from tests.integration.recording_server import recording_server
from tests.integration.service_support import (
    Fleet,
    ask,
    broker_settings,
    channel,
    clear_queues,
    fleet,
    own,
    ready_messages,
    silent_server,
)
from tests.seams.test_copied_parts import brought
from tests.seams.tree import ROOT

Json = dict[str, Any]


@pytest.fixture
def started(rabbitmq: RabbitMQ, gateway: Gateway, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet with empty queues, whose messages are processed in 20 to 50 ms."""
    clear_queues(rabbitmq)
    quiet = {"PROFILE_COLLECTOR_HOST": "", "FAULT_SLOW_PROCESSING": "0", "FAULT_SLOW_PUBLISH": "0"}
    with fleet(tmp_path, gateway.settings, broker_settings(rabbitmq), quiet) as services:
        yield services


def publish(rabbitmq: RabbitMQ, *bodies: bytes, **properties: Any) -> None:
    """Publish messages to the queue, and wait for the confirms."""
    with channel(rabbitmq) as on:
        for body in bodies:
            on.basic_publish("", "messages", body, pika.BasicProperties(delivery_mode=2, **properties))


def total(gateway: Gateway, started: Fleet, name: str) -> float:
    """Return the sum of a counter over all its points and processes."""
    metrics: list[Json] = own(gateway.get("metrics", name=name), started.namespace)
    return float(sum(point["value"] for metric in metrics for point in metric["points"]))


def test_messages_of_the_interface_are_recorded(started: Fleet, gateway: Gateway, rabbitmq: RabbitMQ) -> None:
    """All three formats are recorded, with any name and without headers."""
    started.start("recorder")
    bodies = (
        b"GET /unicorn",
        b"DELETE /beholder some name",
        b'POST /owlbear {"name": "x"}',
        "DELETE /illithid 🦄 = \"'".encode(),
    )
    publish(rabbitmq, *bodies)
    eventually(lambda: total(gateway, started, "mythical_messages_recorded") == len(bodies))
    lines = eventually(lambda: own(gateway.get("logs", contains="message recorded"), started.namespace))
    assert {line["labels"]["beast"] for line in lines} == {"unicorn", "beholder", "owlbear", "illithid"}
    assert ready_messages(rabbitmq, "messages.dead") == 0


def test_the_age_of_a_message_is_measured(started: Fleet, gateway: Gateway, rabbitmq: RabbitMQ) -> None:
    """The age counts from the sender's timestamp; a message without a timestamp is not measured."""
    started.start("recorder")
    publish(rabbitmq, b"GET /unicorn", timestamp=int(time.time()) - 40)
    publish(rabbitmq, b"GET /unicorn")
    eventually(lambda: total(gateway, started, "mythical_messages_recorded") == 2)
    [metric] = eventually(lambda: own(gateway.get("metrics", name="mythical_message_age"), started.namespace))
    [point] = metric["points"]
    assert point["count"] == 1
    assert 40 <= point["sum"] < 40 + DEADLINE_S


def test_poison_is_dead_lettered_and_other_messages_are_recorded(
    started: Fleet, gateway: Gateway, rabbitmq: RabbitMQ
) -> None:
    """Messages that no retry can fix are dead-lettered at once, counted and logged; the others are recorded."""
    started.start("recorder", RECORDER_CONCURRENCY="2")
    poison = (b"nonsense", b"GET /dragon", b"\xff\xfe", b"", b"GET unicorn", b"x" * 2_000_000)
    valid = [b"GET /unicorn"] * 40
    publish(rabbitmq, *valid[:20], *poison, *valid[20:], headers={"traceparent": "nonsense", "x": 2**40})
    eventually(lambda: total(gateway, started, "mythical_messages_recorded") == len(valid))
    eventually(lambda: ready_messages(rabbitmq, "messages.dead") == len(poison))
    assert ready_messages(rabbitmq, "messages") == ready_messages(rabbitmq, "messages.retry") == 0
    eventually(lambda: total(gateway, started, "mythical_messages_dead_lettered") == len(poison))
    lines = eventually(lambda: own(gateway.get("logs", contains="poison message"), started.namespace))
    assert {line["labels"]["level"] for line in lines} == {"warn"}
    spans = own(gateway.get("spans", name="process_message", limit=200), started.namespace)
    failed = [span for span in spans if span["status"]["code"] == "ERROR"]
    assert len(failed) == len(poison)
    assert {span["attributes"]["error.type"] for span in failed} == {"PoisonMessage"}


def test_no_message_is_lost_when_the_recorder_stops(started: Fleet, gateway: Gateway, rabbitmq: RabbitMQ) -> None:
    """After SIGTERM, started messages are finished, the others stay in the queue, and none is recorded twice."""
    # Slow enough that the first recorder can't process all messages before it is stopped, on any machine.
    first = started.start("recorder", RECORDER_CONCURRENCY="4", FAULT_SLOW_PROCESSING="0.2")
    publish(rabbitmq, *[b"GET /beholder"] * 200)
    eventually(lambda: ready_messages(rabbitmq, "messages") < 190)
    assert first.stop() == 0
    recorded = total(gateway, started, "mythical_messages_recorded")
    assert 0 < recorded < 200
    assert ready_messages(rabbitmq, "messages") == 200 - recorded
    started.start("recorder")
    eventually(lambda: total(gateway, started, "mythical_messages_recorded") >= 200)
    assert ready_messages(rabbitmq, "messages") == 0
    assert total(gateway, started, "mythical_messages_recorded") == 200


def test_no_message_is_lost_when_the_recorder_is_killed(started: Fleet, gateway: Gateway, rabbitmq: RabbitMQ) -> None:
    """After SIGKILL, only recorded messages are acknowledged, so the next recorder gets all others."""
    killed = started.start(
        "recorder", RECORDER_CONCURRENCY="4", OTEL_METRICS_EXPORTER="none", FAULT_SLOW_PROCESSING="1"
    )
    # Unicorns are slow and keep it busy for half a minute, so it is killed with unacknowledged messages.
    bodies = [f"GET /{beast} {number}".encode() for beast in ("owlbear", "unicorn") for number in range(50)]
    publish(rabbitmq, *bodies)
    eventually(lambda: ready_messages(rabbitmq, "messages") < 50)
    killed.kill()
    # The broker requeues its messages when it detects that the connection is closed.
    remaining = eventually(lambda: ready_messages(rabbitmq, "messages"))
    started.start("recorder")
    eventually(lambda: ready_messages(rabbitmq, "messages") == 0)
    eventually(lambda: total(gateway, started, "mythical_messages_recorded") >= remaining)
    assert ready_messages(rabbitmq, "messages.dead") == 0


def test_requester_and_recorder_recover_after_the_broker_was_killed(
    started: Fleet, gateway: Gateway, rabbitmq: RabbitMQ
) -> None:
    """Neither is ready during the outage; afterwards every confirmed message is recorded."""
    with recording_server() as server:
        recorder = started.launch("recorder")
        requester = started.launch(
            "requester", **server.settings, REQUESTER_START="0", REQUESTER_LOOPS="1", REQUESTER_RATE="0.5"
        )
        started.ready()
        declared_at = time.monotonic()
        eventually(lambda: total(gateway, started, "mythical_messages_recorded") > 5)
        wait_registered(declared_at)
        rabbitmq.kill()
        for service in (requester, recorder):
            eventually(lambda service=service: ask(service.base_url, "/readyz").status == 503)  # type: ignore[misc]
            assert ask(service.base_url, "/healthz").status == 200
        requests = len(server.requests)
        eventually(lambda: len(server.requests) > requests + 5)
        rabbitmq.start()
        for name, service in (("requester", requester), ("recorder", recorder)):
            # On a busy machine, a killed broker may need long to recover its queues.
            ready = f"readiness of the {name}"
            eventually(lambda service=service: ask(service.base_url, "/readyz").status == 200, 60, ready)  # type: ignore[misc]
        before = total(gateway, started, "mythical_messages_recorded")
        eventually(lambda: total(gateway, started, "mythical_messages_recorded") > before + 5)
        assert requester.stop() == 0
    confirmed = [
        span["attributes"]["messaging.message.id"]
        for span in own(gateway.get("spans", name="publish_to_queue", limit=2000), started.namespace)
        if span["status"]["code"] != "ERROR"
    ]
    assert len(confirmed) > 10

    def recorded() -> set[str]:
        spans = own(gateway.get("spans", name="process_message", limit=2000), started.namespace)
        return {span["attributes"]["messaging.message.id"] for span in spans}

    eventually(lambda: set(confirmed) <= recorded())


def test_a_recorder_stops_in_time_when_broker_and_collector_hang(tmp_path: Path) -> None:
    """Broker and collector accept connections and never answer: after SIGTERM the recorder exits with code 0."""
    with silent_server() as silent, fleet(tmp_path, {"MYTHICAL_QUEUE_HOST": LOOPBACK}) as services:
        recorder = services.start(
            "recorder",
            until="/healthz",
            MYTHICAL_QUEUE_HOST_PORT=str(silent),
            TRACING_COLLECTOR_HOST=LOOPBACK,
            TRACING_COLLECTOR_PORT=str(silent),
            LOGS_TARGET=f"http://{LOOPBACK}:{silent}/loki/api/v1/push",
        )
        assert ask(recorder.base_url, "/readyz").status == 503
        assert recorder.stop() == 0


def test_a_copy_of_the_recorder_and_its_imports_records_messages(
    started: Fleet, gateway: Gateway, rabbitmq: RabbitMQ, tmp_path: Path
) -> None:
    """The files in the guide are complete; only the optional fast layer is missing."""
    copy = tmp_path / "copy"
    for path in brought("services/recorder"):
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    # Safe path: without it, Python would look for modules in the working directory, the checkout, first.
    started.start("recorder", PYTHONPATH=str(copy), PYTHONSAFEPATH="1", INSTRUMENTATION="stock")
    publish(rabbitmq, b"GET /unicorn")
    eventually(lambda: total(gateway, started, "mythical_messages_recorded") == 1)
