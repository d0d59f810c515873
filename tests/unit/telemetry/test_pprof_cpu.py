"""CPU profiles on demand: whose time they show, and what they refuse."""

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


def _doze(done: threading.Event) -> None:
    done.wait()


def _codes() -> set[CodeType]:
    """The code that any thread runs now, callers included."""
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


def test_cpu_time_goes_to_the_thread_that_used_it() -> None:
    """Of a busy and a sleeping thread the busy one has the CPU time; in wall time the two are equal."""
    with _running(_burn, _doze):
        profile = ReadProfile(cpu_profile(0.5))

    assert profile.types == [("samples", "count"), ("cpu", "nanoseconds"), ("wall", "nanoseconds")]
    # Not of all the CPU time: whatever else runs in this process has its share, more of it on a slow machine.
    assert profile.total("cpu", through="_burn") > 20 * profile.total("cpu", through="_doze")
    assert profile.total("samples", through="_burn") > profile.total("samples", through="_doze")
    # By the threads' name: a busy thread may return from a call while its stack is read, which then ends at that call.
    workers = [sample.values["wall"] for sample in profile.samples if sample.labels["thread_name"] == "worker-N"]
    assert sum(workers) == 2 * profile.total("wall", through="_doze") > 0


class _Clocks:
    """In place of the module `time`: clocks that move only when the test says so."""

    def __init__(self) -> None:
        self.wall_ns = 0
        self.used_ns = 0  # by the worker; other threads use nothing
        self.worker = 0

    def monotonic_ns(self) -> int:
        """The time of day."""
        return self.wall_ns

    def clock_gettime_ns(self, clock: int) -> int:
        """What the thread with that clock has used."""
        return self.used_ns if clock == self.worker else 0

    def process_time_ns(self) -> int:
        """What the process has used."""
        return self.used_ns

    def thread_time_ns(self) -> int:
        """What the sampling thread has used."""
        return 0

    def move(self, wall_us: int, used_us: int) -> None:
        """So much time passes, of which the worker computes so much."""
        self.wall_ns += wall_us * 1000
        self.used_ns += used_us * 1000


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere CPU time is an estimate")
def test_cpu_time_goes_to_the_code_at_work_and_not_to_the_call_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread computes and waits by turns: a sampler that looks when it can would see it wait each time.

    What it used is kept until it is seen at work, and then charged in full, as its own clock says.
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

        def look(within_us: int) -> None:
            """Sample 10 ms later: the worker computed for 3 ms, and so long in the window of 0.1 ms at the end."""
            clocks.move(10_000, 3_000)
            sampler.open_window()
            clocks.move(100, within_us)
            sampler.sample(10_100_000)

        look(0)
        look(0)
        look(40)  # it waits for most of the window
        turns[0].set()
        eventually(lambda: compute.__code__ in _codes(), "computing")
        look(60)
        turns[1].set()
        eventually(lambda: compute.__code__ not in _codes(), "waiting again")
        look(0)
    finally:
        for turn in turns:
            turn.set()
        thread.join()
    writer = ProfileWriter(TYPES, TYPES[1], 1, default="cpu")
    sampler.write_to(writer)
    profile = ReadProfile(writer.write("", 0, 1))
    assert profile.total("cpu", through="compute") == 4 * 3_000_000 + 100_000
    # What was used after the last look at work has no other place to go.
    assert profile.total("cpu", through="wait") == clocks.used_ns
    assert profile.total("samples", through="wait") == 2


def test_the_sampler_does_not_wait_long_for_the_interpreter_s_lock() -> None:
    """While a profile is taken, busy threads release the lock after 0.1 ms, sooner than a request ends."""
    stop, seen = threading.Event(), []

    def work(done: threading.Event) -> None:
        while not done.is_set():
            if sys.getswitchinterval() < 0.0002:
                seen.append(sys.getswitchinterval())
                stop.set()

    with _running(work):
        cpu_profile(30, stop=stop)
    assert seen


def test_the_interpreter_s_lock_is_as_before_after_the_profile() -> None:
    """A profile has threads change places more often; left so, busy threads would lose time to it."""
    usual = sys.getswitchinterval()
    cpu_profile(0.01)
    assert sys.getswitchinterval() == usual


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere CPU time is an estimate")
def test_cpu_time_is_what_the_thread_s_own_clock_says() -> None:
    """The profile agrees with what the thread measures of itself: it is measured, not guessed from sightings."""
    used: list[float] = []

    def work(done: threading.Event) -> None:
        start = time.thread_time()
        _burn(done)
        used.append(time.thread_time() - start)

    with _running(work):
        profile = ReadProfile(cpu_profile(0.5))

    assert 0 < profile.total("cpu", through="work") / 1e9 <= used[0]


def test_frames_name_function_file_and_line() -> None:
    """A frame points at the line that ran, and at the line its function starts on."""
    with _running(_doze):
        profile = ReadProfile(cpu_profile(0.1))

    (frame,) = {frame for sample in profile.samples for frame in sample.stack if frame.function == "_doze"}
    start = _doze.__code__.co_firstlineno
    assert (frame.filename, frame.line, frame.start_line) == (__file__, start + 1, start)


def test_the_sampling_thread_is_not_in_its_own_profile() -> None:
    """The profile shows the service, not the taking of the profile."""
    with _running(_burn):
        profile = ReadProfile(cpu_profile(0.1))
    assert not any(sample.goes_through("cpu_profile") for sample in profile.samples)


def test_thread_names_become_labels_without_their_numbers() -> None:
    """Backends keep a series for each label value, and a pool that grows and shrinks numbers its threads for ever."""
    with _running(_burn, name="worker-7"):
        profile = ReadProfile(cpu_profile(0.1))
    assert {s.labels["thread_name"] for s in profile.samples if s.goes_through("_burn")} == {"worker-N"}


def test_a_thread_that_python_did_not_start_is_charged_by_its_share() -> None:
    """A WSGI server in native code has threads without a clock to read: they get what the process used besides."""
    done, over = threading.Event(), threading.Event()

    def work() -> None:
        _burn(done)
        over.set()

    _thread.start_new_thread(work, ())
    try:
        profile = ReadProfile(cpu_profile(0.5))
    finally:
        done.set()
        over.wait()

    busy = [sample for sample in profile.samples if sample.goes_through("work")]
    assert {sample.labels["thread_name"] for sample in busy} == {"native"}
    assert 0 < sum(sample.values["cpu"] for sample in busy) <= profile.message.duration_nanos


def test_threads_may_come_and_go_meanwhile() -> None:
    """A thread that ends between two looks costs neither the profile nor the process."""

    def churn(done: threading.Event) -> None:
        while not done.is_set():
            with _running(_doze, _doze):
                pass

    with _running(churn):
        profile = ReadProfile(cpu_profile(0.5, hz=1000))
    assert profile.total("cpu", through="churn") > 0


def test_the_profile_lasts_as_long_as_asked_for() -> None:
    """Readers divide by the duration, so it has to be true; the period follows from the rate."""
    begun_ns, begun_unix_ns = time.monotonic_ns(), time.time_ns()
    message = ReadProfile(cpu_profile(0.25, hz=50)).message
    assert 250_000_000 <= message.duration_nanos <= time.monotonic_ns() - begun_ns
    assert message.period == 20_000_000
    assert begun_unix_ns <= message.time_nanos <= time.time_ns()


def test_a_profile_ends_early_when_told_to() -> None:
    """A service that is to stop within seconds cannot wait a minute for a profile."""
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    profile = ReadProfile(cpu_profile(30, stop=stop))
    assert profile.message.duration_nanos < 10e9


@pytest.mark.parametrize("seconds", [0, -1, 60.1, float("nan"), float("inf")])
def test_a_length_out_of_bounds_is_refused_with_the_bounds(seconds: float) -> None:
    """The text goes to whoever asked, so it says what would have been right."""
    with pytest.raises(BadDuration, match="above 0 and at most 60"):
        cpu_profile(seconds)


@pytest.mark.parametrize("hz", [0, 1001])
def test_a_rate_out_of_bounds_is_refused(hz: int) -> None:
    """Beyond a thousand looks a second there would be little left of the service."""
    with pytest.raises(ValueError, match="between 1 and 1000"):
        cpu_profile(0.1, hz=hz)


def test_a_second_profile_is_refused_while_one_is_taken_and_not_after() -> None:
    """Two at once would measure each other, and anyone who asks often enough would stop the service."""
    with one_profile(1), pytest.raises(ProfileBusy, match="try again"):
        cpu_profile(0.01)
    assert cpu_profile(0.01)
