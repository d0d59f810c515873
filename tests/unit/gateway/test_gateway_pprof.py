"""pprof profiles: reading, hostile ones included, and merging into flame graphs."""

import gzip
from typing import Any

import pytest

from common.telemetry.pprof.profile_pb2 import Profile
from local.gateway.flames import flame_json, profiled_spans_json, profiles_json
from local.gateway.http_error import HttpError
from local.gateway.limits import Limits
from local.gateway.pprof import DEPTH, LONGEST_TEXT, MAX_TYPES, Flame, PprofReader
from local.gateway.push_pb2 import PushRequest
from local.gateway.receive_pyroscope import PyroscopeReceiver
from local.gateway.telemetry_store import TelemetryStore
from local.gateway.web import Request

Sample = tuple[list[str], int, str]


@pytest.fixture(scope="module")
def reader() -> PprofReader:
    """A reader with a limit of a mebibyte."""
    return PprofReader(1 << 20)


def pprof(samples: list[Sample], types: tuple[str, ...] = ("cpu",)) -> bytes:
    """A profile of samples given as frames from the root inwards, value, and span id or empty."""
    profile = Profile(time_nanos=7, duration_nanos=10**10)
    texts = [""]

    def text(value: str) -> int:
        if value not in texts:
            texts.append(value)
        return texts.index(value)

    for kind in types:
        profile.sample_type.add(type=text(kind), unit=text("nanoseconds"))
    profile.period_type.type, profile.period_type.unit = text("cpu"), text("nanoseconds")
    names = sorted({name for frames, _, _ in samples for name in frames})
    for number, name in enumerate(names, 1):
        profile.function.add(id=number, name=text(name))
        profile.location.add(id=number).line.add(function_id=number)
    for frames, value, span_id in samples:
        sample = profile.sample.add(
            location_id=[names.index(name) + 1 for name in reversed(frames)], value=[value] * len(types)
        )
        if span_id:
            sample.label.add(key=text("span_id"), str=text(span_id))
    profile.string_table.extend(each.encode() for each in texts)
    encoded: bytes = profile.SerializeToString()
    return encoded


def push(window: TelemetryStore, reader: PprofReader, raw: bytes, service: str = "mythical-server") -> None:
    """Send one profile through the receiver."""
    request = PushRequest()
    series = request.series.add()
    series.labels.add(name="__name__", value="process_cpu")
    series.labels.add(name="service_name", value=service)
    series.samples.add(raw_profile=raw)
    post(window, reader, request.SerializeToString())


def post(window: TelemetryStore, reader: PprofReader, body: bytes, content_type: str = "application/proto") -> None:
    """Send a body through the receiver."""
    headers: Any = {"Content-Type": content_type}
    [route] = PyroscopeReceiver(window, reader).routes()
    route.handler(Request(headers, {}, (), body))


def test_profiles_are_merged_over_the_window(reader: PprofReader) -> None:
    """Same stacks add up, whichever push they came with and whether or not it was gzipped."""
    window = TelemetryStore(Limits())
    push(window, reader, pprof([(["main", "work"], 30, ""), (["main", "idle"], 10, "")]))
    push(window, reader, gzip.compress(pprof([(["main", "work"], 5, ""), (["other"], 1, "")])))
    assert flame_json(window, reader, "mythical-server", None, None) == {
        "name": "root",
        "value": 46,
        "children": [
            {
                "name": "main",
                "value": 45,
                "children": [
                    {"name": "work", "value": 35, "children": []},
                    {"name": "idle", "value": 10, "children": []},
                ],
            },
            {"name": "other", "value": 1, "children": []},
        ],
    }


def test_a_span_leads_to_its_own_samples(reader: PprofReader) -> None:
    """With a span id the graph holds the samples taken in that span and no others."""
    window = TelemetryStore(Limits())
    push(window, reader, pprof([(["a"], 30, "00f067aa0ba902b7"), (["b"], 10, "")]))
    assert flame_json(window, reader, "mythical-server", None, "00f067aa0ba902b7")["value"] == 30
    [span] = profiled_spans_json(window, "mythical-server")
    assert span["span_id"] == "00f067aa0ba902b7"
    with pytest.raises(HttpError, match="no profile") as refusal:
        flame_json(window, reader, "mythical-server", None, "ffffffffffffffff")
    assert refusal.value.status == 404


def test_each_type_of_value_is_listed_and_drawn_by_itself(reader: PprofReader) -> None:
    """A profile of several values is offered once per value, by Pyroscope's name for it."""
    window = TelemetryStore(Limits())
    push(window, reader, pprof([(["a"], 3, "")], types=("cpu", "wall")))
    [cpu, wall] = profiles_json(window, "mythical-server")
    assert cpu["type"] == "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
    assert wall["type"] == "process_cpu:wall:nanoseconds:cpu:nanoseconds"
    assert (cpu["samples"], cpu["duration_s"], cpu["time_unix_nano"]) == (1, 10, 7)
    assert flame_json(window, reader, "mythical-server", wall["type"], None)["value"] == 3


def test_references_to_nothing_are_survived(reader: PprofReader) -> None:
    """Indices beyond the tables, and names that are no UTF-8, cost a name and not the profile."""
    profile = Profile(string_table=[b"", b"\xff\xfe"])
    profile.sample_type.add(type=999, unit=-5)
    profile.function.add(id=1, name=1)
    profile.location.add(id=1).line.add(function_id=1)
    profile.location.add(id=2).line.add(function_id=77)
    profile.sample.add(location_id=[1, 2, 3], value=[4, 5, 6]).label.add(key=-1, str=12345)
    [stack] = reader.read(profile.SerializeToString()).stacks
    assert stack.frames == ("?", "?", "\ufffd\ufffd")
    assert stack.values == (4,)


def test_a_stack_without_end_is_cut(reader: PprofReader) -> None:
    """JSON as deep as a runaway recursion would break the page; the outermost frames stay."""
    frames = [f"f{number}" for number in range(5000)]
    [stack] = reader.read(pprof([(frames, 1, "")])).stacks
    assert stack.frames == tuple(frames[:DEPTH])
    flame = Flame()
    flame.add(frames, 1)
    tree, depth = flame.json(), 0
    while tree["children"]:
        [tree] = tree["children"]
        depth += 1
    assert depth == DEPTH


def test_a_small_profile_does_not_become_a_large_one(reader: PprofReader) -> None:
    """One place of many lines that each sample names again, one long text that all types and functions share."""
    profile = Profile(string_table=[b"", b"x" * 100_000])
    profile.function.add(id=1, name=1, filename=1)
    place = profile.location.add(id=1)
    for _ in range(1000):
        profile.sample_type.add(type=1, unit=1)
        place.line.add(function_id=1)
    profile.sample.add(location_id=[1] * 1000, value=[1] * 1000)
    read = reader.read(profile.SerializeToString())
    [stack] = read.stacks
    assert (len(stack.frames), len(stack.values), len(read.types)) == (DEPTH, MAX_TYPES, MAX_TYPES)
    assert max(map(len, (*stack.frames, *read.types[0]))) <= 2 * LONGEST_TEXT + len(" ()")


@pytest.mark.parametrize("raw", [b"\x0a\xff", b"\x1f\x8bnonsense", gzip.compress(b"\x0a\xff"), gzip.compress(b"x")[:9]])
def test_what_is_no_profile_is_refused(reader: PprofReader, raw: bytes) -> None:
    """One clear line and nothing kept, not even the good profiles of the same push."""
    window = TelemetryStore(Limits())
    with pytest.raises(HttpError) as refusal:
        push(window, reader, raw)
    assert refusal.value.status == 400
    assert list(window.profiles()) == []


def test_a_profile_that_unpacks_without_end_is_refused(reader: PprofReader) -> None:
    """A hundred mebibytes of nothing, well packed, are stopped at the limit."""
    with pytest.raises(HttpError) as refusal:
        reader.read(gzip.compress(bytes(100 << 20)))
    assert refusal.value.status == 413


def test_only_a_push_request_is_taken() -> None:
    """Another content type or another message is refused with what would do."""
    window, reader = TelemetryStore(Limits()), PprofReader(1000)
    with pytest.raises(HttpError) as refusal:
        post(window, reader, b"", "application/json")
    assert refusal.value.status == 415
    with pytest.raises(HttpError) as refusal:
        post(window, reader, b"\x0a\xff")
    assert refusal.value.status == 400
