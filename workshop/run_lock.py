"""A lock that lets one scenario run at a time and names it; the kernel releases it however the run ends."""

import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tools.run_lock import AlreadyLocked, lock_note
from tools.run_lock import run_lock as exclusive_lock
from workshop import WorkshopError

STOP_S = 15.0


@dataclass(frozen=True)
class Run:
    """The running scenario: its name, whether the name is hidden, and the process that runs it."""

    name: str
    blind: bool
    pid: int


def lock_file(environ: Mapping[str, str]) -> Path:
    """Return the path of the lock file, in MYTHICAL_STATE or in var/ of the checkout. Raises WorkshopError."""
    configured = environ.get("MYTHICAL_STATE", "").strip()
    folder = Path(configured) if configured else Path(__file__).resolve().parents[1] / "var"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkshopError(f"{folder} cannot be created ({error.strerror}); set MYTHICAL_STATE to a folder") from error
    return folder / "scenario.lock"


@contextmanager
def run_lock(path: Path, name: str, *, blind: bool) -> Iterator[None]:
    """Hold the lock while a scenario runs. Raises WorkshopError if another one is running."""
    with ExitStack() as held:
        _acquire(held, path, Run(name, blind, os.getpid()))
        yield


def _acquire(stack: ExitStack, path: Path, run: Run) -> None:
    try:
        stack.enter_context(exclusive_lock(path, json.dumps(asdict(run))))
    except AlreadyLocked as locked:
        other = _parsed(locked.note)
        what = "another scenario" if other is None or other.blind else f"the scenario {other.name}"
        raise WorkshopError(f"{what} is already running; stop it: python -m workshop scenario stop") from None
    except OSError as error:
        raise WorkshopError(
            f"{path} cannot be written ({error.strerror}); set MYTHICAL_STATE to a folder that you can write"
        ) from error


def running(path: Path) -> Run | None:
    """Return the running scenario, or None."""
    return _parsed(lock_note(path) or "")


def _parsed(note: str) -> Run | None:
    try:
        return Run(**json.loads(note))
    except (ValueError, TypeError):  # no scenario is running, or its process has not written the note yet
        return None


def stop(path: Path) -> Run:
    """Stop the running scenario and return it. Raises WorkshopError."""
    run = running(path)
    if run is None:
        raise WorkshopError("no scenario is running; start one: python -m workshop scenario run NAME")
    try:
        os.kill(run.pid, signal.SIGTERM)
    except ProcessLookupError:
        return run  # it has ended in the meantime
    except PermissionError:
        raise WorkshopError(f"another user runs the scenario in process {run.pid}; stop it as that user") from None
    deadline = time.monotonic() + STOP_S
    while running(path) == run:
        if time.monotonic() > deadline:
            raise WorkshopError(f"the scenario did not stop within {STOP_S:.0f} s; its process is {run.pid}")
        time.sleep(0.05)
    return run
