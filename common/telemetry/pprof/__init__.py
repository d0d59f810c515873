"""Profiles on demand: where this process spends CPU time (cpu.py), and where its memory grows (heap.py).

Here is what both share: one at a time in a process, and the pprof format (profile.proto), gzipped.
"""

import gzip
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

LONGEST_S = 60.0

# One lock for the process, because what it guards belongs to the process: tracemalloc is on or off for all threads,
# and two samplers at once would measure each other.
_RUNNING = threading.Lock()


class BadDuration(ValueError):
    """The duration is not a number of seconds above 0 and up to `LONGEST_S`; the text may be shown to the caller."""


class ProfileBusy(RuntimeError):
    """Another profile of this process is running; the text may be shown to the caller."""


@contextmanager
def one_profile(seconds: float) -> Iterator[None]:
    """Reserve the process for one profile of that many seconds, or raise `BadDuration` or `ProfileBusy`."""
    if not 0 < seconds <= LONGEST_S:  # written so that NaN is rejected as well
        raise BadDuration(f"seconds must be above 0 and at most {LONGEST_S:g}, not {seconds:g}.")
    if not _RUNNING.acquire(blocking=False):
        raise ProfileBusy("Another profile of this process is running: try again when it is done.")
    try:
        yield
    finally:
        _RUNNING.release()


class ValueType(NamedTuple):
    """What one value of a sample measures, such as cpu in nanoseconds."""

    type: str
    unit: str


class Frame(NamedTuple):
    """One line of a stack: the function's name, its file, the line reached and the line it starts at (0: unknown)."""

    function: str
    filename: str
    line: int
    start_line: int = 0


class ProfileWriter:
    """Collects samples and writes them as one profile."""

    def __init__(self, types: Sequence[ValueType], period_type: ValueType, period: int, default: str) -> None:
        """Accept the types of each sample's values, what is sampled how often, and which type to show first."""
        from common.telemetry.pprof.profile_pb2 import Profile  # here: a process without OTLP saves protobuf's 7 MB

        self._profile = Profile(period=period)
        self._strings: dict[str, int] = {"": 0}  # the format requires the empty string at index 0
        self._functions: dict[tuple[str, str, int], int] = {}
        self._locations: dict[Frame, int] = {}
        for each in types:
            self._profile.sample_type.add(type=self._string(each.type), unit=self._string(each.unit))
        self._profile.period_type.type = self._string(period_type.type)
        self._profile.period_type.unit = self._string(period_type.unit)
        self._profile.default_sample_type = self._string(default)

    def add(self, stack: Iterable[Frame], values: Sequence[int], labels: Mapping[str, str]) -> None:
        """Add a sample: its stack, innermost frame first, one value for each type, and its labels."""
        sample = self._profile.sample.add(location_id=[self._location(frame) for frame in stack], value=values)
        for key, value in labels.items():
            sample.label.add(key=self._string(key), str=self._string(value))

    def write(self, program: str, start_unix_ns: int, duration_ns: int) -> bytes:
        """Return the gzipped profile of this program (a file name), with its start and its duration."""
        profile = self._profile
        profile.time_nanos, profile.duration_nanos = start_unix_ns, duration_ns
        # Claims functions, files and lines: without such a mapping readers look for symbols in a binary.
        profile.mapping.add(
            id=1, filename=self._string(program), has_functions=True, has_filenames=True, has_line_numbers=True
        )
        profile.string_table.extend(text.encode(errors="replace") for text in self._strings)  # last: all are known now
        return gzip.compress(profile.SerializeToString(), compresslevel=6)

    def _location(self, frame: Frame) -> int:
        if frame not in self._locations:
            number = self._locations[frame] = len(self._locations) + 1
            location = self._profile.location.add(id=number, mapping_id=1)
            location.line.add(function_id=self._function(frame), line=frame.line)
        return self._locations[frame]

    def _function(self, frame: Frame) -> int:
        key = (frame.function, frame.filename, frame.start_line)
        if key not in self._functions:
            number = self._functions[key] = len(self._functions) + 1
            name, filename = self._string(frame.function), self._string(frame.filename)
            self._profile.function.add(
                id=number, name=name, system_name=name, filename=filename, start_line=frame.start_line
            )
        return self._functions[key]

    def _string(self, text: str) -> int:
        return self._strings.setdefault(text, len(self._strings))
