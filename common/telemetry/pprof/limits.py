"""What a profile on demand may cost: one at a time in a process, and none for longer than a minute."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

LONGEST_S = 60.0

# One lock for the process, because what it guards is the process's own: tracemalloc is on or off for all threads,
# and two samplers at once would each measure the other.
_RUNNING = threading.Lock()


class BadDuration(ValueError):
    """The length asked for is no number of seconds above 0 and up to `LONGEST_S`; its text is fit for the caller."""


class ProfileBusy(RuntimeError):
    """Another profile of this process is being taken; its text is fit for the caller."""


@contextmanager
def one_profile(seconds: float) -> Iterator[None]:
    """Hold the process's one place for a profile of that many seconds, or raise `BadDuration` or `ProfileBusy`."""
    if not 0 < seconds <= LONGEST_S:  # written so that "not a number" is refused as well
        raise BadDuration(f"seconds must be above 0 and at most {LONGEST_S:g}, not {seconds:g}.")
    if not _RUNNING.acquire(blocking=False):
        raise ProfileBusy("Another profile is being taken in this process: try again when it is done.")
    try:
        yield
    finally:
        _RUNNING.release()
