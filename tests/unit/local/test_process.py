"""A child process: launched, stopped, killed, and found again after its parent was lost."""

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
    """Make a process that runs a few lines of Python."""
    arguments = [sys.executable, "-c", program]
    return Process("child", arguments, log=folder / "child.log", record=folder / "child.pid", mark=mark)


def until(look: Callable[[], object]) -> None:
    """Wait until `look` answers true, at most ten seconds."""
    deadline = time.monotonic() + 60
    while not look():
        assert time.monotonic() < deadline, "not within 60 s"
        time.sleep(0.02)


def ended(pid: int) -> bool:
    """Return whether `pid` no longer runs; its parent may not have collected it yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_process_stops_on_its_signal(tmp_path: Path) -> None:
    """Stopping sends the signal, waits, tells how it ended, and forgets the record."""
    process = child(tmp_path, SLEEPER)
    process.launch()
    process.wait_ready(lambda: "up" in process.tail(), 10)
    assert process.stop() == -signal.SIGTERM
    assert not process.running
    assert not (tmp_path / "child.pid").exists()


def test_a_process_that_ignores_its_signal_is_killed(tmp_path: Path) -> None:
    """The grace has an end, so stopping always succeeds."""
    process = child(tmp_path, STUBBORN)
    process.launch()
    process.wait_ready(lambda: "up" in process.tail(), 10)
    assert process.stop(grace_s=0.2) == -signal.SIGKILL


def test_killing_ends_descendants_too(tmp_path: Path) -> None:
    """A server's workers lead process groups of their own; none may outlive the kill."""
    process = child(tmp_path, PARENT)
    process.launch()
    process.wait_ready(lambda: "up" in process.tail(), 10)
    assert process.pid is not None
    children = psutil.Process(process.pid).children()
    assert children
    process.kill()
    assert not psutil.wait_procs(children, timeout=10)[1]


def test_a_process_that_ends_at_once_is_reported_with_its_log(tmp_path: Path) -> None:
    """The reader sees what the program said, not only that it is gone."""
    process = child(tmp_path, "raise SystemExit('no such setting')")
    process.launch()
    with pytest.raises(LocalError, match="child ended immediately") as caught:
        process.wait_ready(lambda: False, 10)
    assert "no such setting" in caught.value.detail


def test_a_program_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    """A missing program is told by name, whether we or the kernel's helper notice."""
    process = Process("child", ["/no/such/program"], log=tmp_path / "log", record=tmp_path / "pid", mark="program")

    def start() -> None:
        process.launch()
        process.wait_ready(lambda: False, 10)

    with pytest.raises(LocalError, match=r"/no/such/program|ended immediately"):
        start()


def test_an_orphan_of_a_crashed_run_is_ended_by_the_next_launch(tmp_path: Path) -> None:
    """The record names the process; the same number, start and command prove that it is ours."""
    lost = child(tmp_path, SLEEPER)
    lost.launch()
    pid = lost.pid
    assert pid is not None
    again = child(tmp_path, SLEEPER)
    again.launch()
    try:
        assert lost.wait(60)
        assert again.running
    finally:
        again.stop()


def test_a_stranger_with_the_recorded_number_is_left_alone(tmp_path: Path) -> None:
    """Numbers are used again: neither another start nor another command may be taken for ours."""
    with subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.DEVNULL) as stranger:  # noqa: S603
        (tmp_path / "child.pid").write_text(f'{{"pid": {stranger.pid}, "started": "1"}}')
        assert not child(tmp_path, SLEEPER).end_orphan()
        started = psutil.Process(stranger.pid).create_time()
        (tmp_path / "child.pid").write_text(f'{{"pid": {stranger.pid}, "started": {started}}}')
        assert not child(tmp_path, SLEEPER, mark="another program").end_orphan()
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.parametrize("record", ["", "{}", "[1]", '{"pid": "x"}'])
def test_a_damaged_record_does_not_hinder(tmp_path: Path, record: str) -> None:
    """A crash while the record was written leaves any text behind."""
    (tmp_path / "child.pid").write_text(record)
    assert not child(tmp_path, SLEEPER).end_orphan()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    """Nobody else would end it: SIGKILL leaves the parent no time."""
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
        # Only once the child runs its own program has it asked the kernel for the signal.
        until(lambda: Path(f"/proc/{pid}/comm").read_text().strip() == "sleep")
        parent.kill()
    until(lambda: ended(pid))
