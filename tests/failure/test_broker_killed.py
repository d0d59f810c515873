"""RabbitMQ is killed under load, again and again: what it confirmed is recorded."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.ports import LOOPBACK
from local.servers.rabbitmq import RabbitMQ
from tests.failure.conftest import Measured
from tests.failure.publishing import QUICK, duplicates, publishing, recorded
from tests.integration.conftest import eventually
from tests.integration.messaging_support import wait_registered
from tests.integration.service_support import SILENT, ask, broker_settings, fleet

pytestmark = pytest.mark.timeout(900)

RATE = 150.0
CONFIRM_S = 5.0
# What pika may take to notice, and one round of the publisher's look at its deadlines.
BOUND_S = CONFIRM_S + 3.0
BACK_S = 10.0  # the longest pause between two attempts to connect is 4 s


@pytest.fixture
def broker(servers_folder: Path) -> Iterator[RabbitMQ]:
    """A broker of this test's own."""
    with RabbitMQ(servers_folder / "killed-broker") as server:
        yield server


def test_every_confirmed_message_is_recorded_though_the_broker_is_killed_again_and_again(
    broker: RabbitMQ, kills: int, tmp_path: Path, measured: Measured
) -> None:
    """At least once, by id; both sides come back by themselves; what cannot be sent fails in time and says so."""
    slowest_back_s = 0.0
    with fleet(tmp_path, SILENT, broker_settings(broker), QUICK) as services:
        recorder = services.start("recorder")
        with publishing(broker, rate=RATE, confirm_timeout_s=CONFIRM_S) as load:
            wait_registered(time.monotonic())
            for _ in range(kills):
                before = len(load.confirmed)
                eventually(lambda before=before: len(load.confirmed) > before + 1.2 * RATE)  # type: ignore[misc]
                broker.kill()
                eventually(lambda: ask(recorder.base_url, "/readyz").status == 503, 10)
                broker.start()
                back = time.monotonic()
                confirmed = len(load.confirmed)
                eventually(lambda confirmed=confirmed: len(load.confirmed) > confirmed, BACK_S)  # type: ignore[misc]
                eventually(lambda: ask(recorder.base_url, "/readyz").status == 200, BACK_S)
                slowest_back_s = max(slowest_back_s, time.monotonic() - back)
        eventually(lambda: load.confirmed <= set(recorded([recorder.process.log])), 60)
        log = recorder.process.log.read_text(encoding="utf-8")
    found = recorded([recorder.process.log])
    lost = load.confirmed - set(found)
    unconfirmed = {name for name in load.failed if load.failed[name] == "NotConfirmed"}
    measured(
        f"{kills} kills, {load.published} published, {len(load.confirmed)} confirmed, {len(lost)} of them lost; "
        f"{duplicates(found)} recorded twice; failed: {dict(load.faults)}, of which {len(unconfirmed & set(found))} "
        f"arrived all the same; slowest end {load.slowest_s:.1f} s (bound {CONFIRM_S:.0f} s), slowest call "
        f"{load.slowest_call_s * 1000:.0f} ms; back {slowest_back_s:.1f} s after the broker"
    )
    assert not lost
    assert load.ended == load.published
    assert set(load.faults) <= {"BrokerUnavailable", "NotConfirmed", "TooManyInFlight"}
    # Surely not sent is surely not there: a caller may send it again without doubling it.
    assert not {name for name, why in load.failed.items() if why != "NotConfirmed"} & set(found)
    assert load.slowest_s < BOUND_S
    assert load.slowest_call_s < 1.0
    # An outage is told when it begins and when it ends, by each of the two connections, with little between.
    assert log.count('msg="broker connected"') == 2 * (kills + 1)
    assert log.count('msg="broker unavailable"') < 12 * kills
    assert "Traceback" not in log
    assert f"broker={LOOPBACK}:{broker.port}" in log
