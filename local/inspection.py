"""What other processes of this machine are: when they began, what they run, whose children they are."""

import os
import subprocess
from pathlib import Path

PROC = Path("/proc")

# Fields of /proc/<pid>/stat after the command's closing parenthesis, counted from 0 (proc_pid_stat(5)).
STATE, PARENT, START_TIME = 0, 1, 19


def started_at(pid: int) -> str | None:
    """Return a text that differs between two processes that had the same number, or None if `pid` does not run.

    A zombie does not run: it only waits for its parent to take note.
    """
    if PROC.is_dir():
        fields = _stat(pid)
        return None if fields is None or fields[STATE] == "Z" else fields[START_TIME]
    state, _, start = _ps(pid, "stat=,lstart=").partition(" ")
    return None if not state or state.startswith("Z") else start.strip()


def command_of(pid: int) -> str:
    """Return the command line of `pid`, its arguments joined by blanks; empty if it does not run."""
    if not PROC.is_dir():
        return _ps(pid, "command=")
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def descendants(pid: int) -> list[int]:
    """Return the children of `pid`, their children and so on, in whatever process group they are."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents():
        children.setdefault(parent, []).append(child)
    found, open_ends = [], [pid]
    while open_ends:
        offspring = children.get(open_ends.pop(), [])
        found += offspring
        open_ends += offspring
    return found


def _stat(pid: int) -> list[str] | None:
    try:
        # The command in parentheses may hold blanks and parentheses itself; what follows the last one does not.
        return (PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def _parents() -> list[tuple[int, int]]:
    if PROC.is_dir():
        pids = [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]
        return [(pid, int(fields[PARENT])) for pid in pids if (fields := _stat(pid))]
    lines = _run_ps("-axo", "pid=,ppid=").splitlines()
    return [(int(pid), int(parent)) for pid, parent in (line.split() for line in lines)]


def _ps(pid: int, columns: str) -> str:
    return _run_ps("-p", str(pid), "-o", columns)


def _run_ps(*arguments: str) -> str:
    environ = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False, env=environ).stdout.strip()  # noqa: S603, S607 - our own arguments
