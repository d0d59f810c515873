"""RabbitMQ is killed repeatedly under load: every message that it confirmed is recorded."""

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
# The rest is the time that pika needs to notice, and one interval in which the publisher checks its deadlines.
MAX_PUBLISH_S = CONFIRM_S + 3.0
RECOVERY_S = 10.0  # the longest pause between two attempts to connect is 4 s


@pytest.fixture
def broker(servers_folder: Path) -> Iterator[RabbitMQ]:
    """A separate broker that the test may kill."""
    with RabbitMQ(servers_folder / "killed-broker") as server:
        yield server


def test_every_confirmed_message_is_recorded_when_the_broker_is_killed_repeatedly(
    broker: RabbitMQ, kills: int, tmp_path: Path, measured: Measured
) -> None:
    """Each id is recorded at least once, both services reconnect, and messages that can't be sent fail in time."""
    slowest_recovery_s = 0.0
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
                started = time.monotonic()
                confirmed = len(load.confirmed)
                eventually(lambda confirmed=confirmed: len(load.confirmed) > confirmed, RECOVERY_S)  # type: ignore[misc]
                eventually(lambda: ask(recorder.base_url, "/readyz").status == 200, RECOVERY_S)
                slowest_recovery_s = max(slowest_recovery_s, time.monotonic() - started)
        eventually(lambda: load.confirmed <= set(recorded([recorder.process.log])), 60)
        log = recorder.process.log.read_text(encoding="utf-8")
    found = recorded([recorder.process.log])
    lost = load.confirmed - set(found)
    unconfirmed = {name for name in load.failed if load.failed[name] == "NotConfirmed"}
    measured(
        f"{kills} kills, {load.published} published, {len(load.confirmed)} confirmed, {len(lost)} of them lost; "
        f"{duplicates(found)} recorded twice; failed: {dict(load.errors)}, of which {len(unconfirmed & set(found))} "
        f"arrived; slowest end {load.slowest_s:.1f} s (limit {CONFIRM_S:.0f} s), slowest call "
        f"{load.slowest_call_s * 1000:.0f} ms; recovered {slowest_recovery_s:.1f} s after the broker"
    )
    assert not lost
    assert load.completed == load.published
    assert set(load.errors) <= {"BrokerUnavailable", "NotConfirmed", "TooManyInFlight"}
    # A message that was certainly not sent is not recorded: a caller may retry it without a duplicate.
    assert not {name for name, error in load.failed.items() if error != "NotConfirmed"} & set(found)
    assert load.slowest_s < MAX_PUBLISH_S
    assert load.slowest_call_s < 1.0
    # Each of the two connections logs the start and the end of an outage, and few lines in between.
    assert log.count('msg="broker connected"') == 2 * (kills + 1)
    assert log.count('msg="broker unavailable"') < 12 * kills
    assert "Traceback" not in log
    assert f"broker={LOOPBACK}:{broker.port}" in log
