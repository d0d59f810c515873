"""The demo as a user runs it: with a time limit, interrupted, crashed, and rejected."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.ports import LOOPBACK
from local.servers.postgres import Postgres
from local.servers.rabbitmq import RabbitMQ
from tests.integration.demo_run import STOPPED_S, DemoRun


@pytest.fixture
def folder(folder: Path) -> Path:
    """A separate folder that exists."""
    folder.mkdir(mode=0o711)
    return folder


@pytest.fixture
def demo(folder: Path) -> Iterator[DemoRun]:
    """A demo that runs its own servers."""
    run = DemoRun(folder)
    yield run
    run.close()


def test_a_run_with_a_time_limit_succeeds_when_every_signal_and_hop_was_seen(
    folder: Path, postgres: Postgres, rabbitmq: RabbitMQ
) -> None:
    """It sees twelve cells and four hops, with the servers of the environment, and leaves no process."""
    run = DemoRun(
        folder,
        DEMO_SECONDS="60",
        MYTHICAL_DATABASE_HOST=postgres.host,
        MYTHICAL_DATABASE_HOST_PORT=str(postgres.port),
        MYTHICAL_QUEUE_HOST=rabbitmq.host,
        MYTHICAL_QUEUE_HOST_PORT=str(rabbitmq.port),
    )
    process = run.start()
    try:
        code = process.wait(240)
    finally:
        run.close()
    assert code == 0, run.printed()
    assert "every signal of every service, and every hop" in run.printed()
    assert "Traceback" not in run.printed()
    assert not (folder / "state/postgres").exists()
    assert run.remaining() == []


def test_the_next_run_starts_after_a_crash_and_stops_with_ctrl_c(demo: DemoRun) -> None:
    """After SIGKILL of the supervisor, the same ports and data are used again; SIGINT then stops all processes.

    A rung that needs Docker is reported in one line, and the services start.
    """
    demo.environ["SERVER_INSTRUMENTATION"] = "ebpf"
    crashed = demo.start()
    demo.wait_started()
    crashed.kill()
    crashed.wait()
    process = demo.start()
    demo.wait_started()
    process.send_signal(signal.SIGINT)
    assert process.wait(STOPPED_S) == 0, demo.printed()
    assert "Traceback" not in demo.printed()
    assert "mythical-server: INSTRUMENTATION=ebpf needs Docker" in demo.printed()
    assert demo.remaining() == []


def test_a_port_in_use_is_reported_before_anything_starts(demo: DemoRun) -> None:
    """The message has the port and the variable that changes it; no server was started, and no data created."""
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        demo.environ["DEMO_LOKI_PORT"] = str(port)
        assert demo.start().wait(30) == 1
    assert f"port {port} (Loki push) is in use" in demo.printed()
    assert "DEMO_LOKI_PORT=" in demo.printed()
    assert not (demo.folder / "state/postgres").exists()


@pytest.mark.parametrize(
    ("name", "value"), [("DEMO_SECONDS", "soon"), ("DEMO_SECONDS", "-1"), ("SERVER_INSTRUMENTATION", "full")]
)
def test_a_wrong_setting_is_one_line(demo: DemoRun, name: str, value: str) -> None:
    """The line has the variable and the allowed values."""
    demo.environ[name] = value
    assert demo.start().wait(30) == 2
    (line,) = demo.printed().splitlines()
    assert f"{name}='{value}'" in line


def test_a_second_demo_of_the_same_checkout_is_rejected(demo: DemoRun) -> None:
    """It would stop the first one's servers as leftovers; instead it reports the first."""
    state = demo.folder / "state"
    holder = "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); f.write('4711');"
    holder += "f.flush(); print('held', flush=True); time.sleep(60)"
    state.mkdir()
    command = [sys.executable, "-c", holder, str(state / "demo.lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:  # noqa: S603 - a constant program
        assert other.stdout is not None
        other.stdout.readline()
        assert demo.start().wait(30) == 1
        other.kill()
    assert "is already running (pid 4711)" in demo.printed()


def test_a_service_that_dies_is_reported_at_once_with_its_log(
    folder: Path, postgres: Postgres, rabbitmq: RabbitMQ
) -> None:
    """The demo stops and shows the reason, because a suite with a dead service would only appear to run."""
    run = DemoRun(
        folder,
        MYTHICAL_DATABASE_HOST=postgres.host,
        MYTHICAL_DATABASE_HOST_PORT=str(postgres.port),
        MYTHICAL_QUEUE_HOST=rabbitmq.host,
        MYTHICAL_QUEUE_HOST_PORT=str(rabbitmq.port),
        ENDPOINT_TYPE="NO-SUCH-TYPE",
    )
    try:
        assert run.start().wait(60) == 1
    finally:
        run.close()
    assert "ended after" in run.printed()
    assert "NO-SUCH-TYPE" in run.printed()
    assert run.remaining() == []


@pytest.mark.parametrize("closed", [False, True])
def test_everything_is_stopped_when_the_output_fails(
    folder: Path, postgres: Postgres, rabbitmq: RabbitMQ, *, closed: bool
) -> None:
    """An encoding without "…" or a closed pipe (`make demo | head`) leaves no process running."""
    run = DemoRun(
        folder,
        PYTHONIOENCODING="ascii",
        DEMO_SECONDS="1",
        DEMO_LOAD="false",
        MYTHICAL_DATABASE_HOST=postgres.host,
        MYTHICAL_DATABASE_HOST_PORT=str(postgres.port),
        MYTHICAL_QUEUE_HOST=rabbitmq.host,
        MYTHICAL_QUEUE_HOST_PORT=str(rabbitmq.port),
    )
    with (folder / "errors").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "local.demo"], env=run.environ, stdout=subprocess.PIPE, stderr=errors
        )
    assert process.stdout is not None
    try:
        printed = process.stdout.readline().decode("ascii")
        if closed:
            process.stdout.close()
        else:
            printed += process.stdout.read().decode("ascii")
        process.wait(120)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert run.remaining() == []
    assert "Traceback" not in (folder / "errors").read_text()
    if not closed:
        assert "buffered telemetry first ?" in printed
        assert "stopped all processes" in printed
