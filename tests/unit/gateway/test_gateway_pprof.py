"""pprof profiles, including hostile ones, are parsed, merged to flame graphs, or rejected."""

import base64
import gzip
import json
import time
from http.client import HTTPMessage
from typing import Any
from urllib.parse import parse_qsl

import pytest

from common.telemetry.pprof.profile_pb2 import Profile
from local.gateway.flames import flame_json, profiled_spans_json, profiles_json
from local.gateway.http_error import HttpError
from local.gateway.limits import Limits
from local.gateway.pprof import DEPTH, LONGEST_TEXT, MAX_TYPES, Flame, PprofReader
from local.gateway.push_pb2 import PushRequest
from local.gateway.receive_pyroscope import PyroscopeReceiver
from local.gateway.telemetry_store import TelemetryStore
from local.gateway.web import Answer, Request

Sample = tuple[list[str], int, str]
# The fixed time makes the IDs of parametrized tests the same in each parallel worker.
PACKED = gzip.compress(b"\x0a\xff", mtime=0)


@pytest.fixture(scope="module")
def reader() -> PprofReader:
    """Return a reader with a limit of 1 MiB."""
    return PprofReader(1 << 20)


def pprof(samples: list[Sample], types: tuple[str, ...] = ("cpu",)) -> bytes:
    """Return a profile of samples, each with its frames from the root, its value, and a span ID or an empty string."""
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
    """Send a profile through the receiver."""
    request = PushRequest()
    series = request.series.add()
    series.labels.add(name="__name__", value="process_cpu")
    series.labels.add(name="service_name", value=service)
    series.samples.add(raw_profile=raw)
    post(window, reader, request.SerializeToString())


def post(window: TelemetryStore, reader: PprofReader, body: bytes, content_type: str = "application/proto") -> Answer:
    """Send a body through the receiver."""
    headers: Any = {"Content-Type": content_type}
    route = PyroscopeReceiver(window, reader).routes()[0]
    return route.handler(Request(headers, {}, (), body))


def test_profiles_are_merged_over_the_window(reader: PprofReader) -> None:
    """Equal stacks are added up across pushes, compressed or not."""
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


def test_a_span_id_selects_its_samples(reader: PprofReader) -> None:
    """With a span ID, the graph has only the samples taken in that span."""
    window = TelemetryStore(Limits())
    push(window, reader, pprof([(["a"], 30, "00f067aa0ba902b7"), (["b"], 10, "")]))
    assert flame_json(window, reader, "mythical-server", None, "00f067aa0ba902b7")["value"] == 30
    [span] = profiled_spans_json(window, "mythical-server")
    assert span["span_id"] == "00f067aa0ba902b7"
    with pytest.raises(HttpError, match="no profile") as rejection:
        flame_json(window, reader, "mythical-server", None, "ffffffffffffffff")
    assert rejection.value.status == 404


def test_a_sample_without_frames_counts(reader: PprofReader) -> None:
    """A thread that is sampled as it starts or ends has no frames; its span is listed, so its graph is not a 404."""
    window = TelemetryStore(Limits())
    push(window, reader, pprof([([], 10, "00f067aa0ba902b7"), (["a"], 5, "")]))
    [span] = profiled_spans_json(window, "mythical-server")
    assert flame_json(window, reader, "mythical-server", None, span["span_id"]) == {
        "name": "root",
        "value": 10,
        "children": [],
    }
    assert flame_json(window, reader, "mythical-server", None, None)["value"] == 15


def test_each_sample_type_is_listed_and_drawn_separately(reader: PprofReader) -> None:
    """A profile with several sample types is listed once per type, under Pyroscope's name for it."""
    window = TelemetryStore(Limits())
    push(window, reader, pprof([(["a"], 3, "")], types=("cpu", "wall")))
    [cpu, wall] = profiles_json(window, "mythical-server")
    assert cpu["type"] == "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
    assert wall["type"] == "process_cpu:wall:nanoseconds:cpu:nanoseconds"
    assert (cpu["samples"], cpu["duration_s"], cpu["time_unix_nano"]) == (1, 10, 7)
    assert flame_json(window, reader, "mythical-server", wall["type"], None)["value"] == 3


def test_invalid_references_are_replaced(reader: PprofReader) -> None:
    """Indices outside the tables and names that are not UTF-8 are replaced; the profile is still read."""
    profile = Profile(string_table=[b"", b"\xff\xfe"])
    profile.sample_type.add(type=999, unit=-5)
    profile.function.add(id=1, name=1)
    profile.location.add(id=1).line.add(function_id=1)
    profile.location.add(id=2).line.add(function_id=77)
    profile.sample.add(location_id=[1, 2, 3], value=[4, 5, 6]).label.add(key=-1, str=12345)
    [stack] = reader.read(profile.SerializeToString()).stacks
    assert stack.frames == ("?", "?", "\ufffd\ufffd")
    assert stack.values == (4,)


def test_a_very_deep_stack_is_truncated(reader: PprofReader) -> None:
    """JSON of that depth would break the page; the outermost frames are kept."""
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


def test_a_small_profile_does_not_expand_to_a_large_one(reader: PprofReader) -> None:
    """A location with many lines that each sample repeats, and a long string that all types share, are cut."""
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


def ingest(window: TelemetryStore, reader: PprofReader, query: str, body: bytes, content_type: str = "") -> None:
    """Send a body to `/ingest` like Pyroscope's SDKs."""
    headers = HTTPMessage()
    headers["Content-Type"] = content_type or "application/octet-stream"
    [route] = [each for each in PyroscopeReceiver(window, reader).routes() if each.path == "/ingest"]
    route.handler(Request(headers, dict(parse_qsl(query)), (), body))


def form(**parts: bytes) -> bytes:
    """Return a form with the boundary `edge`."""
    return b"".join(
        b'--edge\r\nContent-Disposition: form-data; name="%b"; filename="x"\r\nContent-Type: application/octet-stream'
        b"\r\n\r\n%b\r\n" % (name.encode(), content)
        for name, content in parts.items()
    ) + (b"--edge--\r\n")


WHEN = "from=1700000000&until=1700000010"


def test_a_pprof_profile_is_ingested_like_a_pushed_one(reader: PprofReader) -> None:
    """Name, labels, and time come from the query, and the graph from the profile."""
    window = TelemetryStore(Limits())
    raw = gzip.compress(pprof([(["main", "work"], 30, "00f067aa0ba902b7")]))
    ingest(window, reader, f"name=shop{{region=eu, tier = a}}&format=pprof&spyName=nodespy&{WHEN}", raw)
    [shown] = profiles_json(window, "shop")
    assert shown["labels"] == {"service_name": "shop", "region": "eu", "tier": "a", "pyroscope_spy": "nodespy"}
    assert shown["type"] == "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
    assert (shown["time_unix_nano"], shown["samples"], shown["duration_s"]) == (1_700_000_000 * 10**9, 1, 10)
    assert flame_json(window, reader, "shop", None, "00f067aa0ba902b7")["value"] == 30


@pytest.mark.parametrize("format_given", ["", "&format=pprof"])
def test_a_form_is_ingested(reader: PprofReader, format_given: str) -> None:
    """The SDK for Go sends the profile, the previous profile, and the names of its sample types as parts."""
    window = TelemetryStore(Limits())
    raw = pprof([(["lock"], 5, "")], types=("contentions",))
    config = b'{"contentions": {"units": "lock_samples", "display-name": "mutex_count"}}'
    body = form(prev_profile=b"old", profile=raw, sample_type_config=config)
    ingest(window, reader, f"name=shop&{WHEN}{format_given}", body, 'multipart/form-data; boundary="edge"')
    [shown] = profiles_json(window, "shop")
    assert shown["type"] == "mutex:contentions:nanoseconds:cpu:nanoseconds"
    assert flame_json(window, reader, "shop", None, None)["value"] == 5


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("", b"main;work 2\nmain 1\n\n"),
        ("&format=folded", b"main;work 2\r\nmain 1"),
        ("&format=groups", b"main;work 2\nmain 1"),
        ("&format=lines", b"main;work\nmain;work\nmain\n"),
    ],
)
def test_folded_text_is_ingested(reader: PprofReader, query: str, body: bytes) -> None:
    """Each sample stands for one period of the sample rate; the suffix of the name is the type, as in Pyroscope."""
    window = TelemetryStore(Limits())
    ingest(window, reader, f"name=shop.cpu&sampleRate=50&{WHEN}{query}", body)
    [shown] = profiles_json(window, "shop")
    assert (shown["type"], shown["duration_s"]) == ("process_cpu:cpu:nanoseconds:cpu:nanoseconds", 10)
    assert flame_json(window, reader, "shop", None, None) == {
        "name": "root",
        "value": 60_000_000,
        "children": [
            {"name": "main", "value": 60_000_000, "children": [{"name": "work", "value": 40_000_000, "children": []}]}
        ],
    }


@pytest.mark.parametrize(
    ("query", "content_type", "body"),
    [("&format=jfr", "", b"FLR"), ("&format=jfr", "multipart/form-data; boundary=edge", form(jfr=b"FLR"))],
)
def test_an_unsupported_format_is_listed(reader: PprofReader, query: str, content_type: str, body: bytes) -> None:
    """The SDK for Java sends JFR recordings, which are counted but have no graph here."""
    window = TelemetryStore(Limits())
    ingest(window, reader, f"name=shop&{WHEN}{query}", body, content_type)
    [shown] = profiles_json(window, "shop")
    assert (shown["type"], shown["samples"], shown["duration_s"]) == ("jfr", 0, 10)


@pytest.mark.parametrize(
    ("unit", "text"),
    [("s", "1700000000"), ("ms", "1700000000000"), ("µs", "1700000000000000"), ("ns", "1700000000000000000")],
)
def test_the_unit_of_a_time_is_inferred_from_its_digits(reader: PprofReader, unit: str, text: str) -> None:
    """Node sends seconds, and Go sends nanoseconds."""
    window = TelemetryStore(Limits())
    ingest(window, reader, f"name=shop&from={text}", b"main 1")
    [shown] = profiles_json(window, "shop")
    assert shown["time_unix_nano"] == 1_700_000_000 * 10**9, unit


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("now", 0), ("", 0), ("now-10s", -10), ("now-1h30m", -5400), ("-2d", -172_800), ("now+1min", 60)],
)
def test_a_time_may_be_relative_to_now(reader: PprofReader, text: str, seconds: int) -> None:
    """Pyroscope's examples with curl send from=now-10s; a plus sign in a query is decoded to a space."""
    window = TelemetryStore(Limits())
    before = time.time_ns()
    ingest(window, reader, f"name=shop&from={text}", b"main 1")
    [shown] = profiles_json(window, "shop")
    assert before <= shown["time_unix_nano"] - seconds * 10**9 <= time.time_ns()


@pytest.mark.parametrize(
    ("query", "content_type", "body", "message"),
    [
        ("name=x&from=now-10", "", b"main 1", "from"),
        ("name=x&from=now-10parsecs", "", b"main 1", "from"),
        ("", "", b"main 1", "name=application"),
        ("name={a=b}", "", b"main 1", "name=application"),
        ("name=x{a}", "", b"main 1", "labels"),
        ("name=x&from=yesterday", "", b"main 1", "from"),
        ("name=x&until=1e9", "", b"main 1", "until"),
        ("name=x&sampleRate=0", "", b"main 1", "sampleRate"),
        ("name=x&sampleRate=0.5", "", b"main 1", "sampleRate"),
        ("name=x", "", b"main", "format=pprof"),
        ("name=x", "", b"main -1", "format=pprof"),
        ("name=x", "", pprof([(["a"], 1, "")]), "format=pprof"),
        ("name=x&format=pprof", "", b"", "profile"),
        ("name=x&format=pprof", "", b"\x0a\xff", "pprof"),
        ("name=x", "multipart/form-data", form(profile=b""), "boundary"),
        ("name=x", "multipart/form-data; boundary=other", form(profile=b""), "boundary"),
        ("name=x", "multipart/form-data; boundary=edge", form(profile=b"")[:-12], "boundary"),
        ("name=x", "multipart/form-data; boundary=edge", form(other=b"x"), "part named profile"),
        ("name=x", "multipart/form-data; boundary=edge", form(profile=b"x", sample_type_config=b"["), "sample_type"),
        ("name=x", "multipart/form-data; boundary=edge", form(**{f"p{n}": b"" for n in range(50)}), "at most"),
    ],
)
def test_invalid_profiles_are_not_ingested(
    reader: PprofReader, query: str, content_type: str, body: bytes, message: str
) -> None:
    """The message is one line with the error, and nothing is stored."""
    window = TelemetryStore(Limits())
    with pytest.raises(HttpError, match=message) as rejection:
        ingest(window, reader, query, body, content_type)
    assert rejection.value.status == 400
    assert list(window.profiles()) == []


@pytest.mark.parametrize("raw", [b"\x0a\xff", b"\x1f\x8bnonsense", PACKED, PACKED[:9]])
def test_an_invalid_profile_is_rejected(reader: PprofReader, raw: bytes) -> None:
    """The whole push is rejected with one line, including its valid profiles."""
    window = TelemetryStore(Limits())
    with pytest.raises(HttpError) as rejection:
        push(window, reader, raw)
    assert rejection.value.status == 400
    assert list(window.profiles()) == []


def test_a_profile_with_excessive_compression_is_rejected(reader: PprofReader) -> None:
    """Decompression of 100 MiB of zeros stops at the limit."""
    with pytest.raises(HttpError) as rejection:
        reader.read(gzip.compress(bytes(100 << 20)))
    assert rejection.value.status == 413


def test_only_a_push_request_is_accepted() -> None:
    """For another content type or message, the error names what to send."""
    window, reader = TelemetryStore(Limits()), PprofReader(1000)
    with pytest.raises(HttpError) as rejection:
        post(window, reader, b"", "text/plain")
    assert rejection.value.status == 415
    for content_type, body in (
        ("application/proto", b"\x0a\xff"),
        *(("application/json", text) for text in (b"", b"[]", b"\xff", b"[" * 100_000, b'{"series": 1}')),
    ):
        with pytest.raises(HttpError, match="PushRequest") as rejection:
            post(window, reader, body, content_type)
        assert rejection.value.status == 400
    assert list(window.profiles()) == []


def test_a_push_may_be_json(reader: PprofReader) -> None:
    """Connect's clients choose between protobuf and JSON; fields that the gateway doesn't read are ignored."""
    window = TelemetryStore(Limits())
    raw = base64.b64encode(gzip.compress(pprof([(["main"], 30, "")]))).decode()
    labels = [{"name": "service_name", "value": "shop"}, {"name": "__name__", "value": "process_cpu"}]
    series = {"labels": labels, "samples": [{"rawProfile": raw, "ID": "1"}], "annotations": []}
    response = post(window, reader, json.dumps({"series": [series]}).encode(), "application/json")
    assert (response.body, response.content_type) == (b"{}", "application/json")
    assert flame_json(window, reader, "shop", None, None)["value"] == 30
