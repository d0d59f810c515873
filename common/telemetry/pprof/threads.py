"""The stacks of running threads, and what each thread used between two samples."""

import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from opcode import opmap
from types import CodeType, FrameType

from common.telemetry.pprof.profile import Frame

# Deeper recursion is cut at its outer end: while a stack is walked no other thread runs.
MAX_DEPTH = 200

# Identity of the code and instruction offset of each call, innermost first. Reading line numbers would cost more, and
# a code object's own hash includes all its constants.
Stack = tuple[tuple[int, int], ...]

_BETWEEN_CALLS = frozenset({opmap["JUMP_BACKWARD"], opmap["RESUME"]})


class Stacks:
    """Records stacks and the code they ran through; lines are looked up later, when threads are not held up."""

    def __init__(self) -> None:
        self._codes: dict[int, CodeType] = {}
        self._frames: dict[tuple[int, int], Frame] = {}

    def capture(self, frame: FrameType) -> Stack:
        """Walk outwards from the innermost frame. Keeps no frame, which would keep its local variables alive."""
        calls: list[tuple[int, int]] = []
        outer: FrameType | None = frame
        while outer is not None and len(calls) < MAX_DEPTH:
            code = outer.f_code
            self._codes[id(code)] = code
            calls.append((id(code), outer.f_lasti))
            outer = outer.f_back
        return tuple(calls)

    def frames(self, stack: Stack) -> Iterator[Frame]:
        """Yield function, file and line of each call."""
        for call in stack:
            if call not in self._frames:
                self._frames[call] = _frame(self._codes[call[0]], call[1])
            yield self._frames[call]


def _frame(code: CodeType, offset: int) -> Frame:
    spans = (line for start, end, line in code.co_lines() if start <= offset < end and line is not None)
    return Frame(code.co_qualname, code.co_filename, next(spans, code.co_firstlineno), code.co_firstlineno)


class SeenThread:
    """A thread as last sampled: its name with each number replaced by N, its stack, and the CPU time it used.

    `ran_ns` is what it used between the last two samples, `window_ns` the part of that within the window before the
    last one, `uncharged_ns` what is not charged to a stack yet. `clock` is None for a thread whose clock cannot be
    read: of such a thread it is only known whether it `moved`.
    """

    def __init__(self, ident: int, frame: FrameType, stacks: Stacks) -> None:
        thread = next((known for known in threading.enumerate() if known.ident == ident), None)
        self.name = re.sub(r"\d+", "N", thread.name) if thread else "native"
        self.stack: Stack = stacks.capture(frame)
        self.clock = _clock(thread)
        self.ran_ns = self.window_ns = self.uncharged_ns = 0
        self.moved = False
        self._place = _place(frame)
        self._seen_ns = self._opened_ns = time.clock_gettime_ns(self.clock) if self.clock is not None else 0

    def open_window(self) -> None:
        """Begin the window that ends with the next sample."""
        if self.clock is not None:
            with suppress(OSError):  # the thread has ended; update() handles it
                self._opened_ns = time.clock_gettime_ns(self.clock)

    def update(self, frame: FrameType, stacks: Stacks) -> None:
        """Capture its stack and read its clock. Raises OSError when the thread has ended.

        A clock that has not moved means that the stack is still the one known, which makes idle threads cheap.
        """
        if self.clock is None:
            before, self._place = self._place, _place(frame)
            self.moved = before != self._place or _is_between_calls(frame)
        else:
            before_ns, self._seen_ns = self._seen_ns, time.clock_gettime_ns(self.clock)
            self.ran_ns = self._seen_ns - before_ns
            self.window_ns = self._seen_ns - self._opened_ns
            self.uncharged_ns += self.ran_ns
        if self.ran_ns or self.moved:
            self.stack = stacks.capture(frame)


def cpu_of_others() -> int:
    """Return the CPU time in nanoseconds that the process has used, except that of the calling thread."""
    return time.process_time_ns() - time.thread_time_ns()


def _place(frame: FrameType) -> tuple[int, int]:
    return id(frame), frame.f_lasti


def _is_between_calls(frame: FrameType) -> bool:
    """Return whether it is where a running thread releases the interpreter lock; a waiting one is in a call."""
    return frame.f_code.co_code[frame.f_lasti] in _BETWEEN_CALLS


def _clock(thread: threading.Thread | None) -> int | None:
    """Return the id of the thread's CPU clock, on Linux, for a thread that `threading` knows; None: not readable.

    Linux counts CPU time for each thread under the inverse of its number followed by the bits for "one thread" and
    "as scheduled" (include/linux/posix-timers.h). `time.pthread_getcpuclockid` returns the same number, but reads it
    from the memory of a thread that may just have ended, and then the process crashes; here it is an OSError.
    """
    if sys.platform != "linux" or thread is None or thread.native_id is None:
        return None
    return ~thread.native_id << 3 | 0b110
