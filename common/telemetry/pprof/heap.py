"""A heap profile by tracing allocations for a while."""

import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

from common.telemetry.pprof.limits import one_profile
from common.telemetry.pprof.proto import ProfileWriter, ValueType
from common.telemetry.pprof.sources import Sources

DEFAULT_S = 1.0
# Frames kept of each allocation: each one more slows every thread while tracing is on.
DEPTH = 8
TYPES = (ValueType("inuse_objects", "count"), ValueType("inuse_space", "bytes"))


def heap_profile(seconds: float = DEFAULT_S, stop: threading.Event | None = None) -> bytes:
    """Trace allocations for that long; give what of them is still in use at the end as a gzipped pprof profile.

    Python can trace only what is allocated while tracing is on, and code that allocates much runs many times slower
    meanwhile, so it is on only for the window. What was there before is not in the profile, and neither is what was
    freed again: a leak shows, a cache filled at start does not. In a process started with PYTHONTRACEMALLOC tracing
    stays on, and the profile is the change over the window, in which memory given back counts below zero.

    Raises `BadDuration` or `ProfileBusy`. When `stop` is set the window ends early.
    """
    with one_profile(seconds):
        start_unix_ns, start_ns = time.time_ns(), time.monotonic_ns()
        with _tracing() as before:
            (stop or threading.Event()).wait(seconds)
            after = tracemalloc.take_snapshot()
        duration_ns = time.monotonic_ns() - start_ns
        return _write(after.compare_to(before, "traceback"), start_unix_ns, duration_ns)


@contextmanager
def _tracing() -> Iterator[tracemalloc.Snapshot]:
    """Have allocations traced, and give what was traced before; leave tracing on if it was on."""
    if tracemalloc.is_tracing():
        yield tracemalloc.take_snapshot()
        return
    tracemalloc.start(DEPTH)
    try:
        yield tracemalloc.Snapshot([], DEPTH)
    finally:
        tracemalloc.stop()


def _write(changes: list[tracemalloc.StatisticDiff], start_unix_ns: int, duration_ns: int) -> bytes:
    writer = ProfileWriter(TYPES, ValueType("space", "bytes"), 1, default="inuse_space")  # period 1: each byte counts
    sources = Sources()
    for change in changes:
        if (change.count_diff or change.size_diff) and not _is_own(change.traceback):
            stack = [sources.frame(call.filename, call.lineno) for call in reversed(change.traceback)]
            writer.add(stack, (change.count_diff, change.size_diff), {})
    return writer.write(sys.executable, start_unix_ns, duration_ns)


def _is_own(traceback: tracemalloc.Traceback) -> bool:
    """Tell whether the profile itself allocated this."""
    return any(call.filename in (__file__, tracemalloc.__file__) for call in traceback)
