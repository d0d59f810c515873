"""One scenario at a time: a lock that says which one runs, and that the kernel lets go of however a run ends."""

import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from workshop.errors import WorkshopError

STOP_S = 15.0


@dataclass(frozen=True)
class Run:
    """The scenario that runs: its name, whether its name is to be guessed, and the process that runs it."""

    name: str
    blind: bool
    pid: int


def lock_file(environ: Mapping[str, str]) -> Path:
    """Give the file of the lock: in MYTHICAL_STATE, or in var/ of the checkout."""
    named = environ.get("MYTHICAL_STATE", "").strip()
    folder = Path(named) if named else Path(__file__).resolve().parents[1] / "var"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkshopError(f"{folder} cannot be made ({error.strerror}); set MYTHICAL_STATE to a folder") from error
    return folder / "scenario.lock"


@contextmanager
def only_one(path: Path, name: str, *, blind: bool) -> Iterator[None]:
    """Hold the lock while a scenario runs; raises WorkshopError if another one does."""
    with _opened(path) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = running(path)
            what = "another scenario" if other is None or other.blind else f"the scenario {other.name}"
            raise WorkshopError(f"{what} runs already; end it: python -m workshop scenario stop") from None
        lock.truncate(0)
        lock.write(json.dumps(asdict(Run(name, blind, os.getpid()))))
        lock.flush()
        try:
            yield
        finally:
            lock.truncate(0)


def _opened(path: Path) -> TextIO:
    try:
        return path.open("a+", encoding="utf-8")
    except OSError as error:
        raise WorkshopError(
            f"{path} cannot be written ({error.strerror}); set MYTHICAL_STATE to a folder of your own"
        ) from error


def running(path: Path) -> Run | None:
    """Give the scenario that runs, if one does."""
    try:
        with path.open("r", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return Run(**json.loads(lock.read()))
    except (OSError, ValueError, TypeError):  # there is no file, or its holder is just about to write it
        return None
    return None


def stop(path: Path) -> Run:
    """End the scenario that runs and give it; raises WorkshopError."""
    run = running(path)
    if run is None:
        raise WorkshopError("no scenario runs; start one: python -m workshop scenario run NAME")
    try:
        os.kill(run.pid, signal.SIGTERM)
    except ProcessLookupError:
        return run  # it ended meanwhile
    except PermissionError:
        raise WorkshopError(f"another user runs the scenario, in the process {run.pid}; end it as that user") from None
    deadline = time.monotonic() + STOP_S
    while running(path) == run:
        if time.monotonic() > deadline:
            raise WorkshopError(f"the scenario did not end within {STOP_S:.0f} s; its process is {run.pid}")
        time.sleep(0.05)
    return run
