"""The recorder on a real broker: what it counts, what it dead-letters, what happens to messages when a part ends."""

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
    black_hole,
    broker_settings,
    channel,
    clear_queues,
    fleet,
    own,
    ready_messages,
)
from tests.seams.test_copied_parts import brought
from tests.seams.tree import ROOT

Json = dict[str, Any]


@pytest.fixture
def started(rabbitmq: RabbitMQ, gateway: Gateway, tmp_path: Path) -> Iterator[Fleet]:
    """A fleet whose queues are empty and whose messages take 20 to 50 ms."""
    clear_queues(rabbitmq)
    quiet = {"PROFILE_COLLECTOR_HOST": "", "FAULT_SLOW_PROCESSING": "0", "FAULT_SLOW_PUBLISH": "0"}
    with fleet(tmp_path, gateway.settings, broker_settings(rabbitmq), quiet) as services:
        yield services


def publish(rabbitmq: RabbitMQ, *bodies: bytes, **properties: Any) -> None:
    """Put messages into the queue, confirmed."""
    with channel(rabbitmq) as on:
        for body in bodies:
            on.basic_publish("", "messages", body, pika.BasicProperties(delivery_mode=2, **properties))


def total(gateway: Gateway, started: Fleet, name: str) -> float:
    """The sum of a counter over all its points and processes."""
    metrics: list[Json] = own(gateway.get("metrics", name=name), started.namespace)
    return float(sum(point["value"] for metric in metrics for point in metric["points"]))


def test_messages_of_the_interface_are_recorded(started: Fleet, gateway: Gateway, rabbitmq: RabbitMQ) -> None:
    """The three forms, whatever the name in them, and also without any headers."""
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
    """From the timestamp that its sender gave it, whatever it waited for; one without a timestamp does not count."""
    started.start("recorder")
    publish(rabbitmq, b"GET /unicorn", timestamp=int(time.time()) - 40)
    publish(rabbitmq, b"GET /unicorn")
    eventually(lambda: total(gateway, started, "mythical_messages_recorded") == 2)
    [metric] = eventually(lambda: own(gateway.get("metrics", name="mythical_message_age"), started.namespace))
    [point] = metric["points"]
    assert point["count"] == 1
    assert 40 <= point["sum"] < 40 + DEADLINE_S


def test_poison_is_dead_lettered_while_the_rest_flows(started: Fleet, gateway: Gateway, rabbitmq: RabbitMQ) -> None:
    """What no retry can fix goes to the dead-letter queue at once, counted and logged; the others are recorded."""
    started.start("recorder", RECORDER_CONCURRENCY="2")
    poison = (b"nonsense", b"GET /dragon", b"\xff\xfe", b"", b"GET unicorn", b"x" * 2_000_000)
    good = [b"GET /unicorn"] * 40
    publish(rabbitmq, *good[:20], *poison, *good[20:], headers={"traceparent": "nonsense", "x": 2**40})
    eventually(lambda: total(gateway, started, "mythical_messages_recorded") == len(good))
    eventually(lambda: ready_messages(rabbitmq, "messages.dead") == len(poison))
    assert ready_messages(rabbitmq, "messages") == ready_messages(rabbitmq, "messages.retry") == 0
    eventually(lambda: total(gateway, started, "mythical_messages_dead_lettered") == len(poison))
    lines = eventually(lambda: own(gateway.get("logs", contains="poison message"), started.namespace))
    assert {line["labels"]["level"] for line in lines} == {"warn"}
    spans = own(gateway.get("spans", name="process_message", limit=200), started.namespace)
    failed = [span for span in spans if span["status"]["code"] == "ERROR"]
    assert len(failed) == len(poison)
    assert {span["attributes"]["error.type"] for span in failed} == {"PoisonMessage"}


def test_a_stop_in_the_middle_of_the_work_loses_no_message(
    started: Fleet, gateway: Gateway, rabbitmq: RabbitMQ
) -> None:
    """SIGTERM with messages in hand: these are finished, the others are in the queue, and none is recorded twice."""
    # Slow enough that the first cannot be through with all before it is stopped, however busy the machine is.
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


def test_a_recorder_that_dies_loses_no_message(started: Fleet, gateway: Gateway, rabbitmq: RabbitMQ) -> None:
    """SIGKILL with messages in hand: acknowledged is only what was recorded, so the next one gets all others."""
    publish_to_nobody = started.start(
        "recorder", RECORDER_CONCURRENCY="4", OTEL_METRICS_EXPORTER="none", FAULT_SLOW_PROCESSING="1"
    )
    # Those of unicorns, which are slow, keep it busy for half a minute: it dies with some of them in hand.
    bodies = [f"GET /{beast} {number}".encode() for beast in ("owlbear", "unicorn") for number in range(50)]
    publish(rabbitmq, *bodies)
    eventually(lambda: ready_messages(rabbitmq, "messages") < 50)
    publish_to_nobody.kill()
    # What the dead one held comes back when the broker notices that its connection is gone.
    left = eventually(lambda: ready_messages(rabbitmq, "messages"))
    started.start("recorder")
    eventually(lambda: ready_messages(rabbitmq, "messages") == 0)
    eventually(lambda: total(gateway, started, "mythical_messages_recorded") >= left)
    assert ready_messages(rabbitmq, "messages.dead") == 0


def test_requester_and_recorder_go_on_after_the_broker_was_killed(
    started: Fleet, gateway: Gateway, rabbitmq: RabbitMQ
) -> None:
    """Meanwhile both say that they are not ready; afterwards messages flow, and what was confirmed is recorded."""
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
        asked = len(server.asked)
        eventually(lambda: len(server.asked) > asked + 5)
        rabbitmq.start()
        for name, service in (("requester", requester), ("recorder", recorder)):
            # A broker that was killed may take long to bring its queues back on a busy machine.
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


def test_a_recorder_whose_partners_all_hang_ends_in_time(tmp_path: Path) -> None:
    """A broker and a collector that take connections and never answer: SIGTERM ends it, with exit code 0."""
    with black_hole() as silent, fleet(tmp_path, {"MYTHICAL_QUEUE_HOST": LOOPBACK}) as services:
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
    """The files that the guide counts are complete; only the optional fast layer is left out."""
    copy = tmp_path / "copy"
    for path in brought("services/recorder"):
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    # Safe path: without it, Python would look for modules in the working directory, the checkout, first.
    started.start("recorder", PYTHONPATH=str(copy), PYTHONSAFEPATH="1", INSTRUMENTATION="stock")
    publish(rabbitmq, b"GET /unicorn")
    eventually(lambda: total(gateway, started, "mythical_messages_recorded") == 1)
