"""A child process is started, stopped, killed, and found again after its parent crashed."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from local.errors import LocalError
from local.processes.process import Process

SLEEPER = "import time; print('up', flush=True); time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
PARENT = (
    "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n" + SLEEPER
)


def child(folder: Path, program: str, mark: str = "time.sleep") -> Process:
    """Return a process that runs a few lines of Python."""
    arguments = [sys.executable, "-c", program]
    return Process("child", arguments, log=folder / "child.log", record=folder / "child.pid", mark=mark)


def until(condition: Callable[[], object]) -> None:
    """Wait until `condition` returns true, at most 60 seconds."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "not within 60 s"
        time.sleep(0.02)


def ended(pid: int) -> bool:
    """Return whether `pid` no longer runs; its parent may not have collected it yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_process_stops_on_its_signal(tmp_path: Path) -> None:
    """Stopping sends the signal, waits, returns the exit status, and deletes the record."""
    process = child(tmp_path, SLEEPER)
    process.launch()
    process.wait_ready(lambda: "up" in process.tail(), 60)
    assert process.stop() == -signal.SIGTERM
    assert not process.running
    assert not (tmp_path / "child.pid").exists()


def test_a_process_that_ignores_its_signal_is_killed(tmp_path: Path) -> None:
    """The grace period is limited, so stopping always succeeds."""
    process = child(tmp_path, STUBBORN)
    process.launch()
    process.wait_ready(lambda: "up" in process.tail(), 60)
    assert process.stop(grace_s=0.2) == -signal.SIGKILL


def test_killing_ends_descendants_too(tmp_path: Path) -> None:
    """Workers of a server are in separate process groups and must not outlive the kill."""
    process = child(tmp_path, PARENT)
    process.launch()
    process.wait_ready(lambda: "up" in process.tail(), 60)
    assert process.pid is not None
    children = psutil.Process(process.pid).children()
    assert children
    process.kill()
    assert not psutil.wait_procs(children, timeout=10)[1]


def test_a_process_that_ends_at_once_is_reported_with_its_log(tmp_path: Path) -> None:
    """The detail contains the output of the program."""
    process = child(tmp_path, "raise SystemExit('no such setting')")
    process.launch()
    with pytest.raises(LocalError, match="child ended immediately") as caught:
        process.wait_ready(lambda: False, 60)
    assert "no such setting" in caught.value.detail


def test_a_missing_program_is_reported_in_one_line(tmp_path: Path) -> None:
    """The message names the program, or says that the child ended immediately."""
    process = Process("child", ["/no/such/program"], log=tmp_path / "log", record=tmp_path / "pid", mark="program")

    def start() -> None:
        process.launch()
        process.wait_ready(lambda: False, 60)

    with pytest.raises(LocalError, match=r"/no/such/program|ended immediately"):
        start()


def test_an_orphan_of_a_crashed_run_is_ended_by_the_next_launch(tmp_path: Path) -> None:
    """The record contains the process ID; start time and command prove that it is the same process."""
    lost = child(tmp_path, SLEEPER)
    lost.launch()
    lost.wait_ready(lambda: "up" in lost.tail(), 60)  # while the kernel replaces a program, its command line is empty
    again = child(tmp_path, SLEEPER)
    again.launch()
    try:
        assert lost.wait(60)
        assert again.running
    finally:
        again.stop()


def test_another_process_with_the_recorded_id_is_not_ended(tmp_path: Path) -> None:
    """Process IDs are reused, so the start time and the command must match too."""
    with subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.DEVNULL) as other:  # noqa: S603
        (tmp_path / "child.pid").write_text(f'{{"pid": {other.pid}, "started": "1"}}')
        assert not child(tmp_path, SLEEPER).end_orphan()
        started = psutil.Process(other.pid).create_time()
        (tmp_path / "child.pid").write_text(f'{{"pid": {other.pid}, "started": {started}}}')
        assert not child(tmp_path, SLEEPER, mark="another program").end_orphan()
        assert other.poll() is None
        other.kill()


@pytest.mark.parametrize("record", ["", "{}", "[1]", '{"pid": "x"}'])
def test_a_damaged_record_is_ignored(tmp_path: Path, record: str) -> None:
    """A crash while the record was written can leave any text."""
    (tmp_path / "child.pid").write_text(record)
    assert not child(tmp_path, SLEEPER).end_orphan()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    """SIGKILL prevents the parent from ending it."""
    program = (
        "import sys, time; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from local.processes.process import Process\n"
        "folder = Path(sys.argv[2])\n"
        "process = Process('child', ['sleep', '60'], log=folder / 'log', record=folder / 'pid', mark='sleep')\n"
        "process.launch(); print(process.pid, flush=True); time.sleep(60)"
    )
    checkout = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-c", program, str(checkout), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:  # noqa: S603
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        # The child has requested the signal from the kernel once it runs its program.
        until(lambda: Path(f"/proc/{pid}/comm").read_text().strip() == "sleep")
        parent.kill()
    until(lambda: ended(pid))
