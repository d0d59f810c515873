"""What a thread has run between two looks at it."""

import re
import sys
import threading
import time
from contextlib import suppress
from opcode import opmap
from types import FrameType

from common.telemetry.pprof.stacks import Stack, Stacks

_BETWEEN_CALLS = frozenset({opmap["JUMP_BACKWARD"], opmap["RESUME"]})


class SeenThread:
    """A thread as last seen: its name with each number replaced by N, its stack, and the CPU time it used.

    `ran_ns` is what it used between the last two looks, `window_ns` what of that within the window before the last
    one, `uncharged_ns` what no stack was charged with yet. `clock` is None for a thread whose clock cannot be read:
    all that can be told of it is whether it `moved`.
    """

    def __init__(self, ident: int, frame: FrameType, stacks: Stacks) -> None:
        thread = next((known for known in threading.enumerate() if known.ident == ident), None)
        self.name = re.sub(r"\d+", "N", thread.name) if thread else "native"
        self.stack: Stack = stacks.take(frame)
        self.clock = _clock(thread)
        self.ran_ns = self.window_ns = self.uncharged_ns = 0
        self.moved = False
        self._place = _place(frame)
        self._seen_ns = self._opened_ns = time.clock_gettime_ns(self.clock) if self.clock is not None else 0

    def open_window(self) -> None:
        """Begin the window that ends with the next look."""
        if self.clock is not None:
            with suppress(OSError):  # it has ended; the next look sees to that
                self._opened_ns = time.clock_gettime_ns(self.clock)

    def look(self, frame: FrameType, stacks: Stacks) -> None:
        """Take its stack and read its clock. Raises OSError when the thread has ended.

        A clock that has not moved means that the stack is the one already known, which makes idle threads cheap.
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
            self.stack = stacks.take(frame)


def cpu_of_others() -> int:
    """Give the CPU time in nanoseconds that the process has used but for the calling thread."""
    return time.process_time_ns() - time.thread_time_ns()


def _place(frame: FrameType) -> tuple[int, int]:
    return id(frame), frame.f_lasti


def _is_between_calls(frame: FrameType) -> bool:
    """Tell whether it stands where a running thread gives up the interpreter lock; one that waits stands in a call."""
    return frame.f_code.co_code[frame.f_lasti] in _BETWEEN_CALLS


def _clock(thread: threading.Thread | None) -> int | None:
    """Name the thread's CPU clock, on Linux, for a thread that `threading` knows; None: it cannot be read.

    Linux counts CPU time for each thread under the inverse of its number with the bits for "one thread" and "as
    scheduled" behind it (include/linux/posix-timers.h). `time.pthread_getcpuclockid` makes the same number, but reads
    it from the memory of a thread that may just have ended, and then the process crashes; here it is an OSError.
    """
    if sys.platform != "linux" or thread is None or thread.native_id is None:
        return None
    return ~thread.native_id << 3 | 0b110
