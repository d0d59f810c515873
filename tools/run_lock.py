"""A lock that lets one process at a time do a job, and names the one that holds it."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class AlreadyLocked(Exception):
    """Another process holds the lock; `note` is what it wrote there, empty if it has not written yet."""

    def __init__(self, note: str) -> None:
        super().__init__(note)
        self.note = note


@contextmanager
def run_lock(path: Path, note: str) -> Iterator[None]:
    """Hold the lock at `path` with `note` in it; the kernel releases it however the process ends.

    Raises AlreadyLocked, or OSError if the file cannot be written.
    """
    with path.open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise AlreadyLocked(lock.read()) from None
        lock.truncate(0)
        lock.write(note)
        lock.flush()
        try:
            yield
        finally:
            lock.truncate(0)


def lock_note(path: Path) -> str | None:
    """Return the note of the process that holds the lock, or None if no process does."""
    try:
        with path.open(encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return lock.read()
    except OSError:
        return None
    return None
