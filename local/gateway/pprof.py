"""Reads pprof profiles and merges them into the tree of a flame graph."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from google.protobuf.message import DecodeError

from common.telemetry.pprof.profile_pb2 import Profile
from local.gateway.compression import decompress
from local.gateway.http_error import HttpError

# Deeper stacks lose their innermost frames: JSON cannot nest much further, and a graph that deep is not readable.
DEPTH = 200
# A few bytes can refer to the same long text, or to all lines of a location, again and again: without these limits a
# body of a few MB would need as many GB.
LONGEST_TEXT = 1000
MAX_TYPES = 32
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
    """Reads profiles of at most `limit` bytes."""

    def __init__(self, limit: int) -> None:
        self._limit = limit

    def read(self, raw: bytes) -> Pprof:
        """Decode `raw`, gzipped or not; raises HttpError if it is not a pprof profile or too large."""
        if raw.startswith(b"\x1f\x8b"):
            raw = decompress("gzip", raw, self._limit)
        try:
            profile = Profile.FromString(raw)
        except DecodeError:
            raise HttpError(400, "the body is not a pprof profile (profile.proto, gzipped or not)") from None
        return _pprof(profile)


def _pprof(profile: Profile) -> Pprof:
    texts = [text[:LONGEST_TEXT].decode("utf-8", "replace") for text in profile.string_table]

    def text(index: int) -> str:
        return texts[index] if 0 <= index < len(texts) else ""

    names = {each.id: _frame(text(each.name), text(each.filename)) for each in profile.function}
    # A location with several lines is a function inlined into the next one, innermost first.
    frames = {
        each.id: tuple(names.get(line.function_id, "?") for line in reversed(each.line)) or ("?",)
        for each in profile.location
    }
    types = tuple((text(each.type), text(each.unit)) for each in profile.sample_type[:MAX_TYPES])
    return Pprof(
        types=types,
        period_type=(text(profile.period_type.type), text(profile.period_type.unit)),
        time_unix_nano=profile.time_nanos,
        duration_s=profile.duration_nanos / 1e9,
        stacks=[
            Stack(
                frames=tuple(islice(_stack(each.location_id, frames), DEPTH)),
                values=tuple(each.value)[: len(types)],
                labels={text(label.key): text(label.str) for label in each.label if label.str},
            )
            for each in profile.sample
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
