"""A heap profile by tracing allocations for a while."""

import ast
import sys
import threading
import time
import tracemalloc
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.telemetry.pprof import Frame, ProfileWriter, ValueType, one_profile

DEFAULT_S = 1.0
# Frames kept of each allocation: each additional one slows every thread while tracing is on.
DEPTH = 8
TYPES = (ValueType("inuse_objects", "count"), ValueType("inuse_space", "bytes"))


def heap_profile(seconds: float = DEFAULT_S, stop: threading.Event | None = None) -> bytes:
    """Trace allocations for that long; return those still in use at the end as a gzipped pprof profile.

    Python can trace only what is allocated while tracing is on, and code that allocates much runs many times slower
    meanwhile, so it is on only for the window. Earlier allocations are not in the profile, and neither is what was
    freed again: a leak shows, a cache filled at the start does not. In a process started with PYTHONTRACEMALLOC,
    tracing stays on, and the profile is the change over the window, in which freed memory counts below zero.

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
    """Trace allocations, yield a snapshot from before, and leave tracing on if it was on."""
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
    """Return whether the profile itself allocated this."""
    return any(call.filename in (__file__, tracemalloc.__file__) for call in traceback)


# A function or class: its name, its first line and its last one.
_Definition = tuple[str, int, int]


class Sources:
    """Finds the functions that lines belong to: tracemalloc reports file and line only.

    Reads each file once and keeps where its functions and classes are, not its text.
    """

    def __init__(self) -> None:
        self._definitions: dict[str, list[_Definition]] = {}

    def frame(self, filename: str, line: int) -> Frame:
        """Return the frame of a line, named after the functions and classes around it."""
        if filename not in self._definitions:
            self._definitions[filename] = _definitions(filename)
        around = [(name, first) for name, first, last in self._definitions[filename] if first <= line <= last]
        start = around[-1][1] if around else 0
        return Frame(".".join(name for name, _ in around) or "<module>", filename, line, start)


def _definitions(filename: str) -> list[_Definition]:
    """Read a file; return nothing for one that cannot be read, such as code from a string."""
    try:
        with warnings.catch_warnings(action="ignore"):  # Python reported them when it loaded the file
            tree = ast.parse(Path(filename).read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return []
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    found = [(node.name, node.lineno, node.end_lineno or 0) for node in ast.walk(tree) if isinstance(node, kinds)]
    return sorted(found, key=lambda each: each[1])  # what encloses others begins before them
