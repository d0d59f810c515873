"""A CPU profile by looking at every thread's stack many times a second."""

import sys
import threading
import time
from types import FrameType

from common.pprof.limits import one_profile
from common.pprof.proto import ProfileWriter, ValueType
from common.pprof.stacks import Stack, Stacks
from common.pprof.threads import SeenThread, cpu_of_others

MOST_HZ = 1000
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
    with one_profile(seconds):
        start_unix_ns, start_ns = time.time_ns(), time.monotonic_ns()
        sampler = _Sampler(threading.get_ident())
        _sample_until(start_ns + int(seconds * 1e9), period_ns, sampler, stop)
        duration_ns = time.monotonic_ns() - start_ns
        writer = ProfileWriter(TYPES, TYPES[1], period_ns, default="cpu")
        sampler.write_to(writer)
        return writer.write(sys.executable, start_unix_ns, duration_ns)


def _sample_until(end_ns: int, period_ns: int, sampler: "_Sampler", stop: threading.Event | None) -> None:
    """Sample on a fixed beat; a beat missed because the interpreter was busy is not made up for."""
    before = time.monotonic_ns()
    sampler.sample(0)
    while before < end_ns and not (stop and stop.is_set()):
        time.sleep(min(period_ns - before % period_ns, end_ns - before) / 1e9)
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

    def sample(self, wall_ns: int) -> None:
        """Look at all threads now, that many nanoseconds after the look before (0: this is the first)."""
        frames = sys._current_frames()
        frames.pop(self._own, None)  # it holds this very call: kept, the two would keep each other alive
        looks = [self._look(ident, frame) for ident, frame in frames.items()]
        share_ns = self._share(looks, wall_ns)
        for thread, ran_ns in looks:
            self._charge(thread, share_ns if ran_ns is None else ran_ns, wall_ns)

    def write_to(self, writer: ProfileWriter) -> None:
        """Add a sample for each thread name and stack that used anything."""
        for (name, stack), values in self._used.items():
            if any(values):
                writer.add(self._stacks.frames(stack), values, {"thread_name": name})

    def _look(self, ident: int, frame: FrameType) -> tuple[SeenThread, int | None]:
        thread = self._threads.get(ident)
        if thread is not None:
            try:
                return thread, thread.look(frame, self._stacks)
            except OSError:  # it has ended, and another thread goes by its number now
                pass
        self._threads[ident] = thread = SeenThread(ident, frame, self._stacks)
        return thread, 0

    def _share(self, looks: list[tuple[SeenThread, int | None]], wall_ns: int) -> int:
        """Divide what the process used beside the threads with a clock among those without one that ran."""
        before, self._others_ns = self._others_ns, cpu_of_others()
        ran = sum(ran_ns is None for _, ran_ns in looks)
        left_ns = self._others_ns - before - sum(ran_ns or 0 for _, ran_ns in looks)
        return min(wall_ns, max(0, left_ns) // ran) if ran else 0

    def _charge(self, thread: SeenThread, ran_ns: int, wall_ns: int) -> None:
        used = self._used.setdefault((thread.name, thread.stack), [0, 0, 0])
        used[0] += ran_ns > 0
        used[1] += ran_ns
        used[2] += wall_ns
