"""Heap profiles on demand show the lines that hold memory, and tracing ends with the profile."""

import threading
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from common.telemetry.pprof import BadDuration, ProfileBusy, one_profile
from common.telemetry.pprof.heap import heap_profile
from tests.unit.telemetry.pprof_reader import ReadProfile, ReadSample

BLOCK = 10_000
BLOCKS = 50


class Hoard:
    """Holds blocks of memory."""

    def __init__(self) -> None:
        self.blocks: list[bytearray] = []

    def grow(self) -> None:
        """Allocate blocks in one line of code."""
        for _ in range(BLOCKS):
            self.blocks.append(bytearray(BLOCK))


class During(threading.Event):
    """An event for the end of the window, whose wait() first calls a function."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__()
        self._work = work

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002 - the window ends at once
        """Call the function in a separate thread, as services do, and end the window."""
        worker = threading.Thread(target=self._work)
        worker.start()
        worker.join()
        return True


@pytest.fixture
def hoard() -> Hoard:
    """Return an object without blocks."""
    return Hoard()


@pytest.fixture
def _traced() -> Iterator[None]:
    tracemalloc.start(4)
    yield
    tracemalloc.stop()


def _of_hoard(profile: ReadProfile) -> ReadSample:
    (sample,) = (each for each in profile.samples if abs(each.values["inuse_space"]) > BLOCK * BLOCKS / 2)
    return sample


def test_growth_is_found_at_the_line_that_allocates(hoard: Hoard) -> None:
    """Memory that is held at the end is assigned to the line that allocated it, with its function and file."""
    profile = ReadProfile(heap_profile(1, stop=During(hoard.grow)))

    assert profile.types == [("inuse_objects", "count"), ("inuse_space", "bytes")]
    sample = _of_hoard(profile)
    start = Hoard.grow.__code__.co_firstlineno
    innermost = sample.stack[0]
    assert (innermost.function, innermost.filename) == ("Hoard.grow", __file__)
    assert (innermost.line, innermost.start_line) == (start + 3, start)
    assert sample.values["inuse_objects"] >= BLOCKS
    assert sample.values["inuse_space"] >= BLOCK * BLOCKS
    assert sample.goes_through("run")


def test_freed_memory_is_not_in_the_profile(hoard: Hoard) -> None:
    """A heap profile shows only memory that is still held."""

    def work() -> None:
        hoard.grow()
        hoard.blocks.clear()

    assert ReadProfile(heap_profile(1, stop=During(work))).total("inuse_space", through="grow") < BLOCK


def test_the_profile_does_not_contain_the_profiler() -> None:
    """Otherwise, an idle service would show only the allocations of tracing."""
    profile = ReadProfile(heap_profile(0.05))
    assert not any(sample.goes_through("heap_profile") for sample in profile.samples)


def test_tracing_is_off_after_the_profile() -> None:
    """Tracing makes all code that allocates several times slower."""
    heap_profile(0.01)
    assert not tracemalloc.is_tracing()


def test_tracing_is_off_after_an_error() -> None:
    """After any error within the window, the service has its normal speed, and another profile can be taken."""

    class Broken(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002 - the window breaks at once
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        heap_profile(1, stop=Broken())
    assert not tracemalloc.is_tracing()
    heap_profile(0.01)


@pytest.mark.usefixtures("_traced")
def test_tracing_that_was_on_stays_on_and_freed_memory_is_negative(hoard: Hoard) -> None:
    """The process was started with tracing; the profile is then the change over the window."""
    hoard.grow()
    profile = ReadProfile(heap_profile(1, stop=During(hoard.blocks.clear)))

    assert _of_hoard(profile).values["inuse_space"] <= -BLOCK * BLOCKS
    assert tracemalloc.is_tracing()


def test_the_default_duration_is_short() -> None:
    """Scrapers request heap profiles without a duration and time out after some seconds."""
    profile = ReadProfile(heap_profile())
    assert 1e9 <= profile.message.duration_nanos < 10e9


@pytest.mark.parametrize("seconds", [0, 61, float("nan")])
def test_a_duration_out_of_range_is_rejected(seconds: float) -> None:
    """The range is that of CPU profiles, because tracing slows down the whole service."""
    with pytest.raises(BadDuration, match="above 0 and at most 60"):
        heap_profile(seconds)


def test_a_heap_profile_is_rejected_while_any_profile_runs() -> None:
    """Both kinds share a lock, because each would measure the other's work; tracing is not even started."""
    with one_profile(1), pytest.raises(ProfileBusy, match="try again"):
        heap_profile(0.01)
    assert not tracemalloc.is_tracing()
