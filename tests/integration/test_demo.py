"""The demo as a user runs it: bounded, interrupted, crashed, and refused."""

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
def folder(servers_folder: Path, request: pytest.FixtureRequest) -> Path:
    """Give a folder of this test's own, which the servers' users can reach."""
    folder = servers_folder / str(request.node.name)
    folder.mkdir(mode=0o711)
    return folder


@pytest.fixture
def demo(folder: Path) -> Iterator[DemoRun]:
    """Give a demo that runs its own servers."""
    run = DemoRun(folder)
    yield run
    run.close()


def test_a_bounded_run_succeeds_when_every_signal_and_hop_was_seen(
    folder: Path, postgres: Postgres, rabbitmq: RabbitMQ
) -> None:
    """Twelve cells and four hops, on the servers that the environment names; then nothing is left."""
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
    assert code == 0, run.said()
    assert "every signal of every service, and every hop" in run.said()
    assert "Traceback" not in run.said()
    assert not (folder / "state/postgres").exists()
    assert run.left() == []


def test_a_crashed_run_does_not_hinder_the_next_and_ctrl_c_ends_it(demo: DemoRun) -> None:
    """After SIGKILL of the supervisor the same ports and data serve again; SIGINT then ends all.

    A rung that needs Docker is one line, and the services start.
    """
    demo.environ["SERVER_INSTRUMENTATION"] = "ebpf"
    crashed = demo.start()
    demo.wait_started()
    crashed.kill()
    crashed.wait()
    process = demo.start()
    demo.wait_started()
    process.send_signal(signal.SIGINT)
    assert process.wait(STOPPED_S) == 0, demo.said()
    assert "Traceback" not in demo.said()
    assert "mythical-server: INSTRUMENTATION=ebpf needs Docker" in demo.said()
    assert demo.left() == []


def test_a_taken_port_is_told_before_anything_starts(demo: DemoRun) -> None:
    """The message names the port and the variable that moves it; no server was started, no data made."""
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        demo.environ["DEMO_LOKI_PORT"] = str(port)
        assert demo.start().wait(30) == 1
    assert f"port {port} (Loki push) is in use" in demo.said()
    assert "DEMO_LOKI_PORT=" in demo.said()
    assert not (demo.folder / "state/postgres").exists()


@pytest.mark.parametrize(
    ("name", "value"), [("DEMO_SECONDS", "soon"), ("DEMO_SECONDS", "-1"), ("SERVER_INSTRUMENTATION", "full")]
)
def test_a_wrong_setting_is_one_line(demo: DemoRun, name: str, value: str) -> None:
    """The line names the variable, and what it may hold."""
    demo.environ[name] = value
    assert demo.start().wait(30) == 2
    (line,) = demo.said().splitlines()
    assert f"{name}='{value}'" in line


def test_a_second_demo_of_the_same_checkout_is_refused(demo: DemoRun) -> None:
    """It would end the first one's servers as leftovers; instead it names the first."""
    state = demo.folder / "state"
    holder = "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); f.write('4711');"
    holder += "f.flush(); print('held', flush=True); time.sleep(60)"
    state.mkdir()
    command = [sys.executable, "-c", holder, str(state / "demo.lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:  # noqa: S603 - our own program
        assert other.stdout is not None
        other.stdout.readline()
        assert demo.start().wait(30) == 1
        other.kill()
    assert "is already running (pid 4711)" in demo.said()


def test_a_service_that_dies_is_reported_at_once_with_its_log(
    folder: Path, postgres: Postgres, rabbitmq: RabbitMQ
) -> None:
    """A suite with a dead part would only look as if it ran: it ends, and shows why."""
    run = DemoRun(
        folder,
        MYTHICAL_DATABASE_HOST=postgres.host,
        MYTHICAL_DATABASE_HOST_PORT=str(postgres.port),
        MYTHICAL_QUEUE_HOST=rabbitmq.host,
        MYTHICAL_QUEUE_HOST_PORT=str(rabbitmq.port),
        ENDPOINT_TYPE="UNHEARD-OF",
    )
    try:
        assert run.start().wait(60) == 1
    finally:
        run.close()
    assert "ended after" in run.said()
    assert "UNHEARD-OF" in run.said()
    assert run.left() == []


@pytest.mark.parametrize("closed", [False, True])
def test_everything_is_stopped_whatever_becomes_of_the_output(
    folder: Path, postgres: Postgres, rabbitmq: RabbitMQ, *, closed: bool
) -> None:
    """Neither an encoding without "…" nor a reader that has gone (`make demo | head`) leaves a process running."""
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
        said = process.stdout.readline().decode("ascii")
        if closed:
            process.stdout.close()
        else:
            said += process.stdout.read().decode("ascii")
        process.wait(120)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert run.left() == []
    assert "Traceback" not in (folder / "errors").read_text()
    if not closed:
        assert "buffered telemetry first ?" in said
        assert "stopped all processes" in said
