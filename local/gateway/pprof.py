"""Reads pprof profiles and merges them into the tree of a flame graph.

Source of the format: profile.proto of github.com/google/pprof, whose field names and numbers are declared below.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from google.protobuf.message import DecodeError

from local.gateway.compression import gunzip
from local.gateway.http_error import HttpError
from local.gateway.messages import message_classes

# The text table is declared as bytes: a profiler may put any file name there, and one that is no UTF-8 must not cost
# the whole profile. What the flame graph does not need (mappings, addresses) is not declared and so is skipped.
FIELDS = {
    "Profile": "1:sample_type:ValueType* 2:sample:Sample* 4:location:Location* 5:function:Function* "
    "6:string_table:bytes* 9:time_nanos:int64 10:duration_nanos:int64 11:period_type:ValueType",
    "ValueType": "1:type:int64 2:unit:int64",
    "Sample": "1:location_id:uint64* 2:value:int64* 3:label:Label*",
    "Label": "1:key:int64 2:str:int64 3:num:int64",
    "Location": "1:id:uint64 4:line:Line*",
    "Line": "1:function_id:uint64 2:line:int64",
    "Function": "1:id:uint64 2:name:int64 4:filename:int64",
}
# Deeper stacks lose their innermost frames: JSON cannot nest much further, and no one reads a graph that deep.
DEPTH = 200
# A few bytes can refer to the same long text, or to all lines of a place, again and again: without an end to each, a
# body of some MB would need as many GB.
LONGEST_TEXT = 1000
MOST_TYPES = 32
# Pyroscope takes either label for the span a sample belongs to.
SPAN_LABELS = ("span_id", "profile_id")


@dataclass(frozen=True, slots=True)
class Stack:
    """One sample: frames from the root inwards, one value per sample type, labels such as span_id."""

    frames: tuple[str, ...]
    values: tuple[int, ...]
    labels: dict[str, str]

    @property
    def span_id(self) -> str:
        """The span the sample was taken in, in hex, or empty."""
        return next((self.labels[key] for key in SPAN_LABELS if key in self.labels), "")


@dataclass(frozen=True, slots=True)
class Pprof:
    """A profile that was read: `types` are (type, unit) of the values, `period_type` what a sample stands for."""

    types: tuple[tuple[str, str], ...]
    period_type: tuple[str, str]
    time_unix_nano: int
    duration_s: float
    stacks: list[Stack]


class PprofReader:
    """Reads profiles of at most `limit` bytes; make one and keep it, as it builds the message classes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._profile = message_classes("gateway.pprof", FIELDS)["Profile"]

    def read(self, raw: bytes) -> Pprof:
        """Decode `raw`, gzipped or not; raises HttpError if it is no pprof profile or too large."""
        if raw.startswith(b"\x1f\x8b"):
            raw = gunzip(raw, self._limit)
        try:
            message = self._profile.FromString(raw)
        except DecodeError:
            raise HttpError(400, "raw_profile is no pprof profile (profile.proto, gzipped or not)") from None
        return _pprof(message)


def _pprof(message: Any) -> Pprof:
    texts = [text[:LONGEST_TEXT].decode("utf-8", "replace") for text in message.string_table]

    def text(index: int) -> str:
        return texts[index] if 0 <= index < len(texts) else ""

    names = {each.id: _frame(text(each.name), text(each.filename)) for each in message.function}
    # A location with several lines is a function inlined into the next one, innermost first.
    frames = {
        each.id: tuple(names.get(line.function_id, "?") for line in reversed(each.line)) or ("?",)
        for each in message.location
    }
    types = tuple((text(each.type), text(each.unit)) for each in message.sample_type[:MOST_TYPES])
    return Pprof(
        types=types,
        period_type=(text(message.period_type.type), text(message.period_type.unit)),
        time_unix_nano=message.time_nanos,
        duration_s=message.duration_nanos / 1e9,
        stacks=[
            Stack(
                frames=tuple(islice(_stack(each.location_id, frames), DEPTH)),
                values=tuple(each.value)[: len(types)],
                labels={text(label.key): text(label.str) for label in each.label if label.str},
            )
            for each in message.sample
        ],
    )


def _frame(name: str, filename: str) -> str:
    """A frame's name with the last two parts of its file, which tell one `run` from the other."""
    short = "/".join(filename.replace("\\", "/").split("/")[-2:])
    return f"{name} ({short})" if short and short not in name else name


def _stack(location_ids: Any, frames: dict[int, tuple[str, ...]]) -> Iterator[str]:
    """The frames of one sample from the root inwards: pprof lists them from the leaf outwards."""
    for location_id in location_ids[: -DEPTH - 1 : -1]:
        yield from frames.get(location_id, ("?",))


class Flame:
    """A tree of merged stacks: `value` includes that of the children, as d3-flame-graph expects."""

    def __init__(self, name: str = "root") -> None:
        self.name = name
        self.value = 0
        self.children: dict[str, Flame] = {}

    def add(self, frames: Iterable[str], value: int) -> None:
        """Merge one stack, root first, into the tree."""
        node = self
        node.value += value
        for depth, frame in enumerate(frames):
            if depth == DEPTH:
                break
            child = node.children.get(frame)
            if child is None:
                child = node.children[frame] = Flame(frame)
            node = child
            node.value += value

    def json(self) -> dict[str, Any]:
        """The tree as nested maps of name, value and children, widest child first."""
        children = sorted(self.children.values(), key=lambda child: -child.value)
        return {"name": self.name, "value": self.value, "children": [child.json() for child in children]}
