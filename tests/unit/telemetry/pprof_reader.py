"""Parse pprof profiles and resolve their indices."""

import gzip
from dataclasses import dataclass

from common.telemetry.pprof.profile_pb2 import Line, Profile, Sample


@dataclass(frozen=True)
class ReadFrame:
    """A line of a stack."""

    function: str
    filename: str
    line: int
    start_line: int


@dataclass(frozen=True)
class ReadSample:
    """A sample with its stack from the innermost frame outward, its values by type, and its labels."""

    stack: tuple[ReadFrame, ...]
    values: dict[str, int]
    labels: dict[str, str]

    def goes_through(self, function: str) -> bool:
        """Return whether a function of that name is on the stack."""
        return any(frame.function.rpartition(".")[2] == function for frame in self.stack)


class ReadProfile:
    """A profile with resolved indices."""

    def __init__(self, raw: bytes) -> None:
        self.message = Profile.FromString(gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw)
        self._texts = self.message.string_table
        self._functions = {function.id: function for function in self.message.function}
        self._locations = {location.id: self._frame(location.line[0]) for location in self.message.location}
        self.types = [(self.text(kind.type), self.text(kind.unit)) for kind in self.message.sample_type]
        self.samples = [self._sample(sample) for sample in self.message.sample]

    def text(self, index: int) -> str:
        """Return the string at an index."""
        return self._texts[index].decode()

    def total(self, kind: str, through: str | None = None) -> int:
        """Return the sum of the values of one type, for all samples or for those with a function on the stack."""
        return sum(s.values[kind] for s in self.samples if through is None or s.goes_through(through))

    def _frame(self, line: Line) -> ReadFrame:
        function = self._functions[line.function_id]
        return ReadFrame(self.text(function.name), self.text(function.filename), line.line, function.start_line)

    def _sample(self, sample: Sample) -> ReadSample:
        return ReadSample(
            stack=tuple(self._locations[number] for number in sample.location_id),
            values=dict(zip((name for name, _ in self.types), sample.value, strict=True)),
            labels={self.text(label.key): self.text(label.str) for label in sample.label},
        )
