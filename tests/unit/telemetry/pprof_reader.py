"""Reads pprof profiles with Google's protobuf library: a reader that shares nothing with the writer under test."""

import gzip
from dataclasses import dataclass
from typing import Any

from local.gateway.messages import message_classes

# profile.proto of github.com/google/pprof, whole but for the fields nobody writes; its booleans are read as numbers.
_FIELDS = {
    "Profile": "1:sample_type:ValueType* 2:sample:Sample* 3:mapping:Mapping* 4:location:Location* 5:function:Function* "
    "6:string_table:string* 9:time_nanos:int64 10:duration_nanos:int64 11:period_type:ValueType 12:period:int64 "
    "14:default_sample_type:int64",
    "ValueType": "1:type:int64 2:unit:int64",
    "Sample": "1:location_id:uint64* 2:value:int64* 3:label:Label*",
    "Label": "1:key:int64 2:str:int64 3:num:int64",
    "Mapping": "1:id:uint64 5:filename:int64 7:has_functions:int64 8:has_filenames:int64 9:has_line_numbers:int64",
    "Location": "1:id:uint64 2:mapping_id:uint64 4:line:Line*",
    "Line": "1:function_id:uint64 2:line:int64",
    "Function": "1:id:uint64 2:name:int64 3:system_name:int64 4:filename:int64 5:start_line:int64",
}
PROFILE = message_classes("tests.pprof", _FIELDS)["Profile"]


@dataclass(frozen=True)
class ReadFrame:
    """A line of a stack."""

    function: str
    filename: str
    line: int
    start_line: int


@dataclass(frozen=True)
class ReadSample:
    """A sample: its stack from the innermost frame out, its numbers by type, its labels."""

    stack: tuple[ReadFrame, ...]
    values: dict[str, int]
    labels: dict[str, str]

    def goes_through(self, function: str) -> bool:
        """Tell whether a function of that name is on the stack."""
        return any(frame.function.rpartition(".")[2] == function for frame in self.stack)


class ReadProfile:
    """A profile with its indexes looked up."""

    def __init__(self, raw: bytes) -> None:
        self.message: Any = PROFILE.FromString(gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw)
        self._texts = self.message.string_table
        self._functions = {function.id: function for function in self.message.function}
        self._locations = {location.id: self._frame(location.line[0]) for location in self.message.location}
        self.types = [(self.text(kind.type), self.text(kind.unit)) for kind in self.message.sample_type]
        self.samples = [self._sample(sample) for sample in self.message.sample]

    def text(self, index: int) -> str:
        """Look up a text."""
        return str(self._texts[index])

    def total(self, kind: str, through: str | None = None) -> int:
        """Add up the numbers of one type, of all samples or of those that go through a function."""
        return sum(s.values[kind] for s in self.samples if through is None or s.goes_through(through))

    def _frame(self, line: Any) -> ReadFrame:
        function = self._functions[line.function_id]
        return ReadFrame(self.text(function.name), self.text(function.filename), line.line, function.start_line)

    def _sample(self, sample: Any) -> ReadSample:
        return ReadSample(
            stack=tuple(self._locations[number] for number in sample.location_id),
            values=dict(zip((name for name, _ in self.types), sample.value, strict=True)),
            labels={self.text(label.key): self.text(label.str) for label in sample.label},
        )
