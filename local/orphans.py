"""Finding and ending what a crashed run left behind, and nothing else."""

import contextlib
import json
import os
import signal
import time
from pathlib import Path

from local.inspection import command_of, descendants, started_at

GRACE_S = 5.0


def forget(record: Path, pid: int) -> None:
    """Remove `record` if it still names `pid`, and not the process of a later start."""
    if (noted := _read(record)) and noted[0] == pid:
        record.unlink(missing_ok=True)


def end_orphan(record: Path, mark: str, stop_signal: signal.Signals = signal.SIGTERM) -> bool:
    """End the process that `record` names if it still is the one we began; return whether there was one.

    Its number, its start and `mark` in its command line must agree, so no other process is ever touched.
    """
    noted = _read(record)
    if noted is None:
        return False
    pid, began = noted
    record.unlink(missing_ok=True)
    if started_at(pid) != began or mark not in command_of(pid):
        return False
    family = [(member, started_at(member)) for member in [pid, *descendants(pid)]]
    send(pid, stop_signal)
    deadline = time.monotonic() + GRACE_S
    while any(start is not None and started_at(member) == start for member, start in family):
        if time.monotonic() > deadline:
            for member, start in family:
                if start is not None and started_at(member) == start:
                    send(member, signal.SIGKILL)
        time.sleep(0.05)
    return True


def write_record(record: Path, pid: int) -> None:
    """Note in `record` which process `pid` is, for a later start to find it."""
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_text(json.dumps({"pid": pid, "started": started_at(pid)}))


def _read(record: Path) -> tuple[int, str] | None:
    try:
        noted = json.loads(record.read_text())
        return int(noted["pid"]), str(noted["started"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to `pid`; that it has ended meanwhile is no fault."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
