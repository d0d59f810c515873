"""Notes which process was started, so that the next start can find it after a crash, and end it and nothing else."""

import contextlib
import json
import signal
from pathlib import Path

import psutil

GRACE_S = 5.0
# How far two readings of one start time may differ: they count from the boot, whose time moves with the clock.
SAME_START_S = 2.0


class ProcessRecord:
    """The file `path` with the number and the start time of a process whose command line contains `mark`."""

    def __init__(self, path: Path, mark: str) -> None:
        self._path = path
        self._mark = mark

    def write(self, pid: int) -> None:
        """Note the process `pid`; one that has ended already needs no note."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(psutil.NoSuchProcess):
            self._path.write_text(json.dumps({"pid": pid, "started": psutil.Process(pid).create_time()}))

    def remove(self, pid: int) -> None:
        """Remove the file if it still names `pid`, and not the process of a later start."""
        if (noted := self._read()) and noted[0] == pid:
            self._path.unlink(missing_ok=True)

    def end_orphan(self, stop_signal: signal.Signals) -> bool:
        """End the noted process and its descendants if it still runs; return whether it did.

        Number, start time and `mark` must all agree, so no other process is ever touched.
        """
        tree = self._find()
        self._path.unlink(missing_ok=True)
        if not tree:
            return False
        with contextlib.suppress(psutil.NoSuchProcess):
            tree[0].send_signal(stop_signal)
        _, left = psutil.wait_procs(tree, timeout=GRACE_S)
        kill(left)
        psutil.wait_procs(left, timeout=GRACE_S)
        return True

    def _find(self) -> list[psutil.Process]:
        noted = self._read()
        if noted is None or self._mark not in command_line(noted[0]):
            return []
        with contextlib.suppress(psutil.NoSuchProcess):
            tree = process_tree(noted[0])
            if abs(tree[0].create_time() - noted[1]) <= SAME_START_S:
                return tree
        return []

    def _read(self) -> tuple[int, float] | None:
        try:
            noted = json.loads(self._path.read_text())
            return int(noted["pid"]), float(noted["started"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


def command_line(pid: int) -> str:
    """Return the command line of `pid`, its arguments joined by blanks; empty if it does not run."""
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""


def process_tree(pid: int) -> list[psutil.Process]:
    """Return `pid`, its children, their children and so on. Raises psutil.NoSuchProcess if it does not run."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def kill(processes: list[psutil.Process]) -> None:
    """Send SIGKILL to each of them that still runs."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
