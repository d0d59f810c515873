"""Postgres on a full disk, and the memory and disk alarms by which RabbitMQ blocks publishers."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.servers.postgres import Postgres
from local.servers.rabbitmq import RabbitMQ
from tests.failure.calling import Callers
from tests.failure.conftest import Measured
from tests.failure.publishing import QUICK, count_recorded
from tests.integration.conftest import Service, eventually
from tests.integration.messaging_support import rabbitmqctl
from tests.integration.recording_server import recording_server
from tests.integration.service_support import (
    SILENT,
    ask,
    broker_settings,
    clear_queues,
    database_settings,
    fleet,
)

pytestmark = pytest.mark.timeout(240)

SMALL_MB = 160  # a new database has 40 MB, and its write-ahead log starts with 32
RECOVERY_S = 10.0


@pytest.fixture
def small_disk(servers_folder: Path) -> Iterator[Path]:
    """A small file system in memory. Only root may mount one; for other users the test is skipped with a reason."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small file system that can be filled: sudo make test-failure")
    folder = servers_folder / "small"
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_MB}m,mode=0711", "mythical-small-disk", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)  # noqa: S603 - our own arguments
    if mounted.returncode:
        pytest.skip(f"mounting is not allowed here, not even to root: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S603, S607 - our own arguments


def fill(folder: Path) -> Path:
    """Fill the disk to the last block; return the file that fills it."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        block = b"\0" * 4096
        try:
            while True:
                file.write(block)
        except OSError:
            return ballast


def test_no_acknowledged_write_is_lost_when_the_disk_is_full(
    small_disk: Path, tmp_path: Path, measured: Measured
) -> None:
    """Writes get 503 with Retry-After, reads still work; once there is space, writes succeed again."""
    with (
        Postgres(small_disk / "postgres") as database,
        fleet(tmp_path, SILENT, database_settings(database), {"FAULT_NULL_NAME": "0"}) as servers,
    ):
        server = servers.start("server")
        with Callers([server], each=4, deletes=False) as callers:
            eventually(lambda: callers.statuses[201] > 200)
            ballast = fill(small_disk)
            eventually(lambda: callers.statuses[503] > 50)
            read, unavailable = callers.statuses[200], callers.statuses[503]
            eventually(lambda: callers.statuses[200] > read + 50)
            eventually(lambda: callers.statuses[503] > unavailable + 50)
            output = database.process.tail(200)
            ballast.unlink()
            served = callers.statuses[201]
            if not database.process.running:
                database.start()  # as its supervisor would
            eventually(lambda: callers.statuses[201] > served + 50, RECOVERY_S)
        violations = callers.broken_guarantees(database)
        log = server.process.log.read_text(encoding="utf-8")
    measured(
        f"responses {dict(sorted(callers.statuses.items()))}, of which {callers.statuses[200] - read} reads after the "
        f"disk was full; {len(violations)} guarantees violated; slowest response {callers.slowest_s:.1f} s"
    )
    assert "No space left on device" in output
    assert not violations
    assert set(callers.statuses) <= {200, 201, 503}
    assert callers.unavailable_without_retry_after == 0
    assert not callers.unanswered
    assert 'error="the database is out of disk space' in log


ALARMS = {
    "memory": (("set_vm_memory_high_watermark", "0"), ("set_vm_memory_high_watermark", "0.4")),
    "disk": (("set_disk_free_limit", "900000GB"), ("set_disk_free_limit", "50MB")),
}


def blocked(requester: Service) -> bool:
    """Return whether the requester's metrics report that the broker blocks it."""
    page = ask(requester.base_url, "/metrics").text
    return 'mythical_publisher_blocked{messaging_destination_name="messages"} 1.0' in page


@pytest.mark.parametrize("alarm", ALARMS)
def test_requests_continue_while_the_brokers_alarm_blocks_publishers(
    alarm: str, rabbitmq: RabbitMQ, tmp_path: Path, measured: Measured
) -> None:
    """Metric and log report it; each message times out with a log line; messages sent before are recorded."""
    begin, end = ALARMS[alarm]
    clear_queues(rabbitmq)
    with recording_server() as server, fleet(tmp_path, SILENT, broker_settings(rabbitmq), QUICK) as services:
        recorder = services.launch("recorder")
        requester = services.launch(
            "requester", **server.settings, REQUESTER_START="0", FAULT_REQUEST_WAVES="0", FAULT_SLOW_PUBLISH="0"
        )
        services.ready()
        eventually(lambda: count_recorded(recorder.process.log) > 20)
        rabbitmqctl(rabbitmq, *begin)
        try:
            eventually(lambda: blocked(requester), what="no metric that the publisher is blocked")
            before = len(server.requests)
            eventually(lambda: len(server.requests) > before + 50, what="the requests stopped")
            eventually(lambda: "message not published" in requester.process.log.read_text(encoding="utf-8"))
            during = len(server.requests) - before
        finally:
            rabbitmqctl(rabbitmq, *end)
        eventually(lambda: not blocked(requester))
        recorded = count_recorded(recorder.process.log)
        eventually(lambda: count_recorded(recorder.process.log) > recorded + 50)
        log = requester.process.log.read_text(encoding="utf-8")
    clear_queues(rabbitmq)
    measured(
        f"{during} requests made while blocked; {log.count('message not published')} messages timed out, each with "
        "a line in the log"
    )
    assert log.count('msg="broker blocked"') == 1
    assert log.count('msg="broker unblocked"') == 1
    assert "its memory or disk alarm is on" in log
    assert "status=FAILURE" not in "".join(line for line in log.splitlines() if 'msg="request made"' in line)
