"""A CPU profile by looking at every thread's stack many times a second.

Looking takes the interpreter lock, which a thread that does input and output gives up again and again, always within
a call that waits. A plain sampler therefore finds such a thread waiting each time, and takes the waiting call for what
uses the CPU. Here, first, the lock is demanded back from whoever holds it within a tenth of a millisecond; secondly,
each look is at the end of a short window, and only the threads that ran in that window are taken to be at work. The
CPU time that a thread's clock shows is kept until it is next seen at work, and belongs to the stack it then has.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from common.telemetry.pprof.limits import one_profile
from common.telemetry.pprof.proto import ProfileWriter, ValueType
from common.telemetry.pprof.stacks import Stack, Stacks
from common.telemetry.pprof.threads import SeenThread, cpu_of_others

MOST_HZ = 1000
# How long a thread is watched before each look, and how long it may keep the lock after the look is due.
WINDOW_S = 0.0001
LOCK_S = 0.0001
TYPES = (ValueType("samples", "count"), ValueType("cpu", "nanoseconds"), ValueType("wall", "nanoseconds"))


def cpu_profile(seconds: float, hz: int = 100, stop: threading.Event | None = None) -> bytes:
    """Watch all threads but the calling one for that long and give a gzipped pprof profile.

    The types are samples/count and cpu/nanoseconds, as in Go's net/http/pprof, and wall/nanoseconds, which an idle
    thread has too. CPU time is read from each thread's own clock, from its second sighting on; a thread without a
    readable clock gets a share of what is left (see threads.py). The label `thread_name` has its digits replaced by N:
    backends keep a series for each value, and pools number their threads.

    Raises `BadDuration` or `ProfileBusy`. When `stop` is set the profile ends early, with what it has.
    """
    if not 1 <= hz <= MOST_HZ:
        raise ValueError(f"hz must be between 1 and {MOST_HZ}, not {hz}.")
    period_ns = 1_000_000_000 // hz
    with one_profile(seconds), _lock_on_demand():
        start_unix_ns, start_ns = time.time_ns(), time.monotonic_ns()
        sampler = _Sampler(threading.get_ident())
        _sample_until(start_ns + int(seconds * 1e9), period_ns, sampler, stop)
        duration_ns = time.monotonic_ns() - start_ns
    writer = ProfileWriter(TYPES, TYPES[1], period_ns, default="cpu")
    sampler.write_to(writer)
    return writer.write(sys.executable, start_unix_ns, duration_ns)


@contextmanager
def _lock_on_demand() -> Iterator[None]:
    """Have threads give up the interpreter lock sooner; Python's own 5 ms is longer than most requests take."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(min(usual, LOCK_S))
    try:
        yield
    finally:
        sys.setswitchinterval(usual)


def _sample_until(end_ns: int, period_ns: int, sampler: "_Sampler", stop: threading.Event | None) -> None:
    """Sample on a fixed beat; a beat missed because the interpreter was busy is not made up for."""
    before = time.monotonic_ns()
    sampler.sample(0)
    while before < end_ns and not (stop and stop.is_set()):
        time.sleep(min(period_ns - before % period_ns, end_ns - before) / 1e9)
        sampler.open_window()
        time.sleep(WINDOW_S)
        now = time.monotonic_ns()
        sampler.sample(now - before)
        before = now


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
        """Begin to watch who runs until the next look."""
        for thread in self._threads.values():
            thread.open_window()
        self._opened_ns = time.monotonic_ns()

    def sample(self, wall_ns: int) -> None:
        """Look at all threads now, that many nanoseconds after the look before (0: this is the first)."""
        frames = sys._current_frames()
        frames.pop(self._own, None)  # it holds this very call: kept, the two would keep each other alive
        window_ns = time.monotonic_ns() - self._opened_ns
        looks = (self._look(ident, frame) for ident, frame in frames.items())
        threads = [thread for thread in looks if thread is not None]
        self._share(threads, wall_ns)
        running = sum(thread.window_ns > 0 for thread in threads)
        for thread in threads:
            self._of(thread)[2] += wall_ns
            # Who had half of an equal share of the window, or more, was at work when it ended.
            if thread.clock is None or thread.window_ns * running * 2 >= window_ns:
                self._settle(thread)

    def write_to(self, writer: ProfileWriter) -> None:
        """Add a sample for each thread name and stack that used anything."""
        for thread in self._threads.values():
            self._settle(thread)
        for (name, stack), values in self._used.items():
            if any(values):
                writer.add(self._stacks.frames(stack), values, {"thread_name": name})

    def _look(self, ident: int, frame: FrameType) -> SeenThread | None:
        """Give the thread as seen now; None: it ended since its stack was taken."""
        thread = self._threads.get(ident)
        if thread is not None:
            try:
                thread.look(frame, self._stacks)
            except OSError:  # it has ended, and another thread may go by its number now
                self._settle(self._threads.pop(ident))
            else:
                return thread
        with suppress(OSError):
            self._threads[ident] = SeenThread(ident, frame, self._stacks)
        return self._threads.get(ident)

    def _share(self, threads: list[SeenThread], wall_ns: int) -> None:
        """Divide what the process used beside the threads with a clock among those without one that ran."""
        before, self._others_ns = self._others_ns, cpu_of_others()
        left_ns = max(0, self._others_ns - before - sum(thread.ran_ns for thread in threads))
        ran = [thread for thread in threads if thread.clock is None and thread.moved]
        for thread in ran:
            thread.uncharged_ns += min(wall_ns, left_ns // len(ran))

    def _settle(self, thread: SeenThread) -> None:
        """Charge what the thread used since it was last seen at work to the stack it has now."""
        if thread.uncharged_ns:
            used = self._of(thread)
            used[0] += 1
            used[1] += thread.uncharged_ns
            thread.uncharged_ns = 0

    def _of(self, thread: SeenThread) -> list[int]:
        return self._used.setdefault((thread.name, thread.stack), [0, 0, 0])
