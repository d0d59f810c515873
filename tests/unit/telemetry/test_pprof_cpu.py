"""CPU profiles on demand show the time of each thread and have limits."""

import _thread
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType

import pytest

from common.telemetry.pprof import BadDuration, ProfileBusy, ProfileWriter, cpu, one_profile
from common.telemetry.pprof.cpu import TYPES, cpu_profile
from tests.unit.telemetry.pprof_reader import ReadProfile
from tests.unit.waiting import eventually


def _burn(done: threading.Event) -> None:
    while not done.is_set():
        sum(number * number for number in range(200))


def _sleep(done: threading.Event) -> None:
    done.wait()


def _codes() -> set[CodeType]:
    """Return the code that any thread runs now, including callers."""
    return {
        frame.f_code for innermost in sys._current_frames().values() for frame, _ in traceback.walk_stack(innermost)
    }


@contextmanager
def _running(*works: Callable[[threading.Event], None], name: str = "worker-7") -> Iterator[None]:
    done = threading.Event()
    threads = [threading.Thread(target=work, args=(done,), name=name) for work in works]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: {work.__code__ for work in works} <= _codes(), "work in each thread")
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_cpu_time_is_assigned_to_the_thread_that_used_it() -> None:
    """A busy thread has the CPU time, and a sleeping one has none; both have the same wall time."""
    with _running(_burn, _sleep):
        profile = ReadProfile(cpu_profile(0.5))

    assert profile.types == [("samples", "count"), ("cpu", "nanoseconds"), ("wall", "nanoseconds")]
    # Not compared with all CPU time, because other code in this process has a share, which is larger on a slow machine.
    assert profile.total("cpu", through="_burn") > 20 * profile.total("cpu", through="_sleep")
    assert profile.total("samples", through="_burn") > profile.total("samples", through="_sleep")
    # By thread name: a busy thread may return from a call while its stack is read, which then ends at that call.
    workers = [sample.values["wall"] for sample in profile.samples if sample.labels["thread_name"] == "worker-N"]
    assert sum(workers) == 2 * profile.total("wall", through="_sleep") > 0


class _Clocks:
    """Replaces the module `time` with clocks that only the test advances."""

    def __init__(self) -> None:
        self.wall_ns = 0
        self.used_ns = 0  # by the worker; other threads use none
        self.worker = 0

    def monotonic_ns(self) -> int:
        """Return the wall time."""
        return self.wall_ns

    def clock_gettime_ns(self, clock: int) -> int:
        """Return the CPU time of the thread with that clock."""
        return self.used_ns if clock == self.worker else 0

    def process_time_ns(self) -> int:
        """Return the CPU time of the process."""
        return self.used_ns

    def thread_time_ns(self) -> int:
        """Return the CPU time of the sampling thread."""
        return 0

    def move(self, wall_us: int, used_us: int) -> None:
        """Advance the wall time, and the CPU time of the worker."""
        self.wall_ns += wall_us * 1000
        self.used_ns += used_us * 1000


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere CPU time is an estimate")
def test_cpu_time_is_assigned_to_computing_code_and_not_to_waiting_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that alternates may be waiting at each sample, so its CPU time is kept until it is seen computing.

    It is then assigned in full, as measured by the thread's own clock.
    """
    turns = [threading.Event() for _ in range(3)]

    def compute() -> None:
        turns[1].wait()

    def wait() -> None:
        turns[0].wait()
        compute()
        turns[2].wait()

    thread = threading.Thread(target=wait)
    clocks = _Clocks()
    monkeypatch.setattr(cpu, "time", clocks)
    thread.start()
    try:
        assert thread.ident
        clocks.worker = time.pthread_getcpuclockid(thread.ident)
        eventually(lambda: wait.__code__ in _codes(), "worker")
        sampler = cpu._Sampler(threading.get_ident())
        sampler.sample(0)

        def sample(within_us: int) -> None:
            """Sample 10 ms later: the worker computed for 3 ms, and for the given time in a final window of 0.1 ms."""
            clocks.move(10_000, 3_000)
            sampler.open_window()
            clocks.move(100, within_us)
            sampler.sample(10_100_000)

        sample(0)
        sample(0)
        sample(40)  # it waits for most of the window
        turns[0].set()
        eventually(lambda: compute.__code__ in _codes(), "computing")
        sample(60)
        turns[1].set()
        eventually(lambda: compute.__code__ not in _codes(), "waiting again")
        sample(0)
    finally:
        for turn in turns:
            turn.set()
        thread.join()
    writer = ProfileWriter(TYPES, TYPES[1], 1, default="cpu")
    sampler.write_to(writer)
    profile = ReadProfile(writer.write("", 0, 1))
    assert profile.total("cpu", through="compute") == 4 * 3_000_000 + 100_000
    # CPU time after the last sample of computing code is assigned to the waiting call.
    assert profile.total("cpu", through="wait") == clocks.used_ns
    assert profile.total("samples", through="wait") == 2


def test_the_sampler_does_not_wait_long_for_the_gil() -> None:
    """During a profile, busy threads release the lock after 0.1 ms, which is shorter than a request."""
    stop, seen = threading.Event(), []

    def work(done: threading.Event) -> None:
        while not done.is_set():
            if sys.getswitchinterval() < 0.0002:
                seen.append(sys.getswitchinterval())
                stop.set()

    with _running(work):
        cpu_profile(30, stop=stop)
    assert seen


def test_the_switch_interval_is_restored_after_the_profile() -> None:
    """A profile makes threads switch more often, which would slow down busy threads."""
    usual = sys.getswitchinterval()
    cpu_profile(0.01)
    assert sys.getswitchinterval() == usual


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere CPU time is an estimate")
def test_cpu_time_is_that_of_the_thread_s_own_clock() -> None:
    """The time in the profile is measured and not estimated from the number of samples."""
    used: list[float] = []

    def work(done: threading.Event) -> None:
        start = time.thread_time()
        _burn(done)
        used.append(time.thread_time() - start)

    with _running(work):
        profile = ReadProfile(cpu_profile(0.5))

    assert 0 < profile.total("cpu", through="work") / 1e9 <= used[0]


def test_frames_name_function_file_and_line() -> None:
    """A frame has the line that ran, and the line at which its function starts."""
    with _running(_sleep):
        profile = ReadProfile(cpu_profile(0.1))

    (frame,) = {frame for sample in profile.samples for frame in sample.stack if frame.function == "_sleep"}
    start = _sleep.__code__.co_firstlineno
    assert (frame.filename, frame.line, frame.start_line) == (__file__, start + 1, start)


def test_the_sampling_thread_is_not_in_its_own_profile() -> None:
    """The profile shows the service and not the profiler."""
    with _running(_burn):
        profile = ReadProfile(cpu_profile(0.1))
    assert not any(sample.goes_through("cpu_profile") for sample in profile.samples)


def test_thread_names_become_labels_without_numbers() -> None:
    """Backends keep a series for each label value, and a pool keeps creating threads with new numbers."""
    with _running(_burn, name="worker-7"):
        profile = ReadProfile(cpu_profile(0.1))
    assert {s.labels["thread_name"] for s in profile.samples if s.goes_through("_burn")} == {"worker-N"}


def test_a_thread_that_python_did_not_start_gets_an_estimated_share() -> None:
    """Native threads of a WSGI server have no clock that can be read: they get the remaining time of the process."""
    done, ended = threading.Event(), threading.Event()

    def work() -> None:
        _burn(done)
        ended.set()

    _thread.start_new_thread(work, ())
    try:
        profile = ReadProfile(cpu_profile(0.5))
    finally:
        done.set()
        ended.wait()

    busy = [sample for sample in profile.samples if sample.goes_through("work")]
    assert {sample.labels["thread_name"] for sample in busy} == {"native"}
    assert 0 < sum(sample.values["cpu"] for sample in busy) <= profile.message.duration_nanos


def test_threads_may_start_and_end_during_a_profile() -> None:
    """A thread that ends between two samples causes no error."""

    def churn(done: threading.Event) -> None:
        while not done.is_set():
            with _running(_sleep, _sleep):
                pass

    with _running(churn):
        profile = ReadProfile(cpu_profile(0.5, hz=1000))
    assert profile.total("cpu", through="churn") > 0


def test_the_profile_has_the_requested_duration() -> None:
    """Readers divide by the duration, so it must be correct; the period follows from the rate."""
    started_ns, started_unix_ns = time.monotonic_ns(), time.time_ns()
    message = ReadProfile(cpu_profile(0.25, hz=50)).message
    assert 250_000_000 <= message.duration_nanos <= time.monotonic_ns() - started_ns
    assert message.period == 20_000_000
    assert started_unix_ns <= message.time_nanos <= time.time_ns()


def test_a_profile_ends_early_on_a_stop_event() -> None:
    """A service that must stop within seconds cannot wait a minute for a profile."""
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    profile = ReadProfile(cpu_profile(30, stop=stop))
    assert profile.message.duration_nanos < 10e9


@pytest.mark.parametrize("seconds", [0, -1, 60.1, float("nan"), float("inf")])
def test_a_duration_out_of_range_is_rejected_with_the_range(seconds: float) -> None:
    """The client gets the text, so it contains the valid range."""
    with pytest.raises(BadDuration, match="above 0 and at most 60"):
        cpu_profile(seconds)


@pytest.mark.parametrize("hz", [0, 1001])
def test_a_rate_out_of_range_is_rejected(hz: int) -> None:
    """More than a thousand samples per second would leave little CPU time for the service."""
    with pytest.raises(ValueError, match="between 1 and 1000"):
        cpu_profile(0.1, hz=hz)


def test_a_second_profile_is_rejected_only_while_the_first_one_runs() -> None:
    """Two at once would measure each other, and frequent requests would block the service."""
    with one_profile(1), pytest.raises(ProfileBusy, match="try again"):
        cpu_profile(0.01)
    assert cpu_profile(0.01)
