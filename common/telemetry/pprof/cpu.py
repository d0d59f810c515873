"""A CPU profile by sampling every thread's stack many times a second.

Sampling needs the interpreter lock, which a thread that does input and output releases again and again, always in a
call that waits. A plain sampler would therefore find such a thread waiting each time, and charge the waiting call with
the CPU time. Here the switch interval is lowered while sampling, so that the sampler gets the lock within 0.1 ms; and
each sample is at the end of a short window: only threads that ran in that window count as running. The CPU time on a
thread's clock is kept until the thread is next seen running, and is charged to the stack it has then.
"""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from common.telemetry.pprof.profile import ProfileWriter, ValueType, one_profile
from common.telemetry.pprof.threads import SeenThread, Stack, Stacks, cpu_of_others

MAX_HZ = 1000
# How long threads are watched before each sample, and how long one may keep the lock once a sample is due.
WINDOW_S = 0.0001
SWITCH_INTERVAL_S = 0.0001
TYPES = (ValueType("samples", "count"), ValueType("cpu", "nanoseconds"), ValueType("wall", "nanoseconds"))


def cpu_profile(seconds: float, hz: int = 100, stop: threading.Event | None = None) -> bytes:
    """Sample all threads except the calling one for that long; return a gzipped pprof profile.

    The types are samples/count and cpu/nanoseconds, as in Go's net/http/pprof, and wall/nanoseconds, which an idle
    thread has too. CPU time is read from each thread's own clock, from its second sample on; a thread without a
    readable clock gets a share of what is left (see threads.py). The label `thread_name` has its digits replaced by N:
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
