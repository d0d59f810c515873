"""A heap profile by tracing allocations for a while."""

import re
import sys
import threading
import time
import tokenize
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

from common.telemetry.pprof import Frame, ProfileWriter, ValueType, one_profile

DEFAULT_S = 1.0
# Frames kept of each allocation: each additional one slows every thread while tracing is on.
DEPTH = 8
TYPES = (ValueType("inuse_objects", "count"), ValueType("inuse_space", "bytes"))

# What encloses more indented lines: a function or class with its name, or a block without one.
_HEAD = re.compile(
    r"(?:(?:async\s+)?def|class)\s+(?P<name>\w+)|(?:async|if|elif|else|for|while|with|try|except|finally|match|case)\b"
)


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


# Indentation, and the name of the function or class that the line starts ("": a block, None: neither).
_Line = tuple[int, str | None]


class Sources:
    """Finds the functions that lines belong to: tracemalloc reports file and line only.

    Reads each file once and keeps its outline, not its text.
    """

    def __init__(self) -> None:
        self._outlines: dict[str, list[_Line]] = {}
        self._frames: dict[tuple[str, int], Frame] = {}

    def frame(self, filename: str, line: int) -> Frame:
        """Return the frame of a line, named after the functions and classes around it, found by indentation."""
        if filename not in self._outlines:
            self._outlines[filename] = _outline(filename)
        if (filename, line) not in self._frames:
            self._frames[filename, line] = _frame(self._outlines[filename], filename, line)
        return self._frames[filename, line]


def _outline(filename: str) -> list[_Line]:
    """Read a file; return nothing for one that cannot be read, such as code from a string."""
    try:
        with tokenize.open(filename) as source:
            return [_line(text) for text in source]
    except (OSError, SyntaxError, UnicodeDecodeError):
        return []


def _line(text: str) -> _Line:
    bare = text.lstrip()
    head = _HEAD.match(bare)
    return len(text) - len(bare), (head["name"] or "") if head else None


def _frame(outline: list[_Line], filename: str, line: int) -> Frame:
    names: list[str] = []
    start = 0
    depth = outline[line - 1][0] if 0 < line <= len(outline) else 0
    for number in range(line - 1, 0, -1):
        indent, name = outline[number - 1] if depth else (0, None)
        if name is not None and indent < depth:
            depth = indent
            names += [name] if name else []
            start = start or (number if name else 0)
    return Frame(".".join(reversed(names)) or "<module>", filename, line, start)
