"""A CPU profile by sampling every thread's stack many times a second.

Sampling needs the interpreter lock, which a thread that does input and output releases again and again, always in a
call that waits. A plain sampler would therefore find such a thread waiting each time, and charge the waiting call with
the CPU time. Here the switch interval is lowered while sampling, so that the sampler gets the lock within 0.1 ms; and
each sample is at the end of a short window: only threads that ran in that window count as running. The CPU time on a
thread's clock is kept until the thread is next seen running, and is charged to the stack it has then.
"""

import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from opcode import opmap
from types import CodeType, FrameType

from common.telemetry.pprof import Frame, ProfileWriter, ValueType, one_profile

MAX_HZ = 1000
# How long threads are watched before each sample, and how long one may keep the lock once a sample is due.
WINDOW_S = 0.0001
SWITCH_INTERVAL_S = 0.0001
TYPES = (ValueType("samples", "count"), ValueType("cpu", "nanoseconds"), ValueType("wall", "nanoseconds"))

# Deeper recursion is cut at its outer end: while a stack is walked no other thread runs.
MAX_DEPTH = 200

# Identity of the code and instruction offset of each call, innermost first. Reading line numbers would cost more, and
# a code object's own hash includes all its constants.
Stack = tuple[tuple[int, int], ...]

_BETWEEN_CALLS = frozenset({opmap["JUMP_BACKWARD"], opmap["RESUME"]})


def cpu_profile(seconds: float, hz: int = 100, stop: threading.Event | None = None) -> bytes:
    """Sample all threads except the calling one for that long; return a gzipped pprof profile.

    The types are samples/count and cpu/nanoseconds, as in Go's net/http/pprof, and wall/nanoseconds, which an idle
    thread has too. CPU time is read from each thread's own clock, from its second sample on; a thread without a
    readable clock gets a share of what is left if it ran. The label `thread_name` has its digits replaced by N:
    back ends keep a series for each value, and pools number their threads.

    Raises `BadDuration` or `ProfileBusy`. When `stop` is set the profile ends early, with what it has.
    """
    if not 1 <= hz <= MAX_HZ:
        raise ValueError(f"hz must be between 1 and {MAX_HZ}, not {hz}.")
    period_ns = 1_000_000_000 // hz
    with one_profile(seconds), _short_switch_interval():
        start_unix_ns, start_ns = time.time_ns(), time.monotonic_ns()
        sampler = _Sampler(threading.get_ident())
        _sample_until(start_ns + int(seconds * 1e9), period_ns, sampler, stop)
        duration_ns = time.monotonic_ns() - start_ns
    writer = ProfileWriter(TYPES, TYPES[1], period_ns, default="cpu")
    sampler.write_to(writer)
    return writer.write(sys.executable, start_unix_ns, duration_ns)


@contextmanager
def _short_switch_interval() -> Iterator[None]:
    """Make threads release the interpreter lock sooner; the default of 5 ms is longer than most requests take."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(min(usual, SWITCH_INTERVAL_S))
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def _sample_until(end_ns: int, period_ns: int, sampler: "_Sampler", stop: threading.Event | None) -> None:
    """Sample at fixed times; one missed because the interpreter was busy is skipped."""
    before = time.monotonic_ns()
    sampler.sample(0)
    while before < end_ns and not (stop and stop.is_set()):
        time.sleep(min(period_ns - before % period_ns, end_ns - before) / 1e9)
        sampler.open_window()
        time.sleep(WINDOW_S)
        now = time.monotonic_ns()
        sampler.sample(now - before)
        before = now


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


class _Sampler:
    """Adds up what each stack of each thread used."""

    def __init__(self, own: int) -> None:
        self._own = own
        self._stacks = Stacks()
        self._threads: dict[int, SeenThread] = {}
        self._used: dict[tuple[str, Stack], list[int]] = {}
        self._others_ns = cpu_of_others()
        self._opened_ns = time.monotonic_ns()

    def open_window(self) -> None:
        """Begin the window in which threads that run until the next sample are noticed."""
        for thread in self._threads.values():
            thread.open_window()
        self._opened_ns = time.monotonic_ns()

    def sample(self, wall_ns: int) -> None:
        """Sample all threads now, that many nanoseconds after the previous sample (0: this is the first)."""
        frames = sys._current_frames()
        frames.pop(self._own, None)  # it holds this very call: kept, the two would keep each other alive
        window_ns = time.monotonic_ns() - self._opened_ns
        seen = (self._update(ident, frame) for ident, frame in frames.items())
        threads = [thread for thread in seen if thread is not None]
        self._share(threads, wall_ns)
        running = sum(thread.window_ns > 0 for thread in threads)
        for thread in threads:
            self._of(thread)[2] += wall_ns
            # A thread that had at least half of an equal share of the window was running when it ended.
            if thread.clock is None or thread.window_ns * running * 2 >= window_ns:
                self._settle(thread)

    def write_to(self, writer: ProfileWriter) -> None:
        """Add a sample for each thread name and stack that used anything."""
        for thread in self._threads.values():
            self._settle(thread)
        for (name, stack), values in self._used.items():
            if any(values):
                writer.add(self._stacks.frames(stack), values, {"thread_name": name})

    def _update(self, ident: int, frame: FrameType) -> SeenThread | None:
        """Return the thread as of now; None if it has ended since its stack was read."""
        thread = self._threads.get(ident)
        if thread is not None:
            try:
                thread.update(frame, self._stacks)
            except OSError:  # it has ended, and another thread may have its number now
                self._settle(self._threads.pop(ident))
            else:
                return thread
        with suppress(OSError):
            self._threads[ident] = SeenThread(ident, frame, self._stacks)
        return self._threads.get(ident)

    def _share(self, threads: list[SeenThread], wall_ns: int) -> None:
        """Divide the CPU time that no thread's clock accounts for among the threads without a clock that ran."""
        before, self._others_ns = self._others_ns, cpu_of_others()
        left_ns = max(0, self._others_ns - before - sum(thread.ran_ns for thread in threads))
        ran = [thread for thread in threads if thread.clock is None and thread.moved]
        for thread in ran:
            thread.uncharged_ns += min(wall_ns, left_ns // len(ran))

    def _settle(self, thread: SeenThread) -> None:
        """Charge what the thread used since it was last seen running to the stack it has now."""
        if thread.uncharged_ns:
            used = self._of(thread)
            used[0] += 1
            used[1] += thread.uncharged_ns
            thread.uncharged_ns = 0

    def _of(self, thread: SeenThread) -> list[int]:
        return self._used.setdefault((thread.name, thread.stack), [0, 0, 0])
