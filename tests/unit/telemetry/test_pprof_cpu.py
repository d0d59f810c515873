"""CPU profiles on demand: whose time they show, and what they refuse."""

import _thread
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from common.telemetry.pprof import BadDuration, ProfileBusy, one_profile
from common.telemetry.pprof.cpu import cpu_profile
from tests.unit.telemetry.pprof_reader import ReadProfile


def _burn(done: threading.Event) -> None:
    while not done.is_set():
        sum(number * number for number in range(200))


def _doze(done: threading.Event) -> None:
    done.wait()


@contextmanager
def _running(*works: Callable[[threading.Event], None], name: str = "worker-7") -> Iterator[None]:
    done = threading.Event()
    threads = [threading.Thread(target=work, args=(done,), name=name) for work in works]
    for thread in threads:
        thread.start()
    try:
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
    assert profile.total("wall", through="_doze") == pytest.approx(profile.message.duration_nanos, rel=0.1)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere CPU time is an estimate")
def test_cpu_time_goes_to_the_code_at_work_and_not_to_the_call_that_waits() -> None:
    """A thread computes for a millisecond and waits: a sampler that looks when it can would see it wait each time.

    On a machine with other work the sampler itself may be late for a whole second, so the best of five profiles counts.
    """

    def compute() -> None:
        end = time.thread_time() + 0.001
        while time.thread_time() < end:
            sum(number * number for number in range(50))

    def work(done: threading.Event) -> None:
        while not done.wait(0.001):
            compute()

    def share() -> float:
        profile = ReadProfile(cpu_profile(1))
        return profile.total("cpu", through="compute") / max(profile.total("cpu", through="work"), 1)

    with _running(work):
        assert any(share() > 0.3 for _ in range(5))


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

    assert profile.total("cpu", through="work") / 1e9 == pytest.approx(used[0], rel=0.2)


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
    message = ReadProfile(cpu_profile(0.25, hz=50)).message
    assert message.duration_nanos / 1e9 == pytest.approx(0.25, abs=0.1)
    assert message.period == 20_000_000
    assert message.time_nanos / 1e9 == pytest.approx(time.time(), abs=10)


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
