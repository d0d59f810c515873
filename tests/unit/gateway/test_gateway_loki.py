"""Loki pushes are read, rejected if they are malformed, and converted to OTLP."""

import contextlib
import json
from http.client import HTTPMessage

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from local.gateway.http_error import HttpError
from local.gateway.limits import Limits
from local.gateway.loki_to_otlp import export_request, resource_named
from local.gateway.push_pb2 import LokiPushRequest
from local.gateway.receive_loki import LokiReceiver, parse_labels, read_protobuf, read_push
from local.gateway.records import LogLine
from local.gateway.telemetry_store import TelemetryStore
from local.gateway.web import Request

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


def push(values: list[object], **labels: object) -> list[LogLine]:
    """Return the lines read from one stream."""
    return list(read_push(json.dumps({"streams": [{"stream": labels, "values": values}]}).encode()))


def test_labels_line_and_structured_metadata_are_read() -> None:
    """The third element of a value is metadata, from which the IDs are read first."""
    [line] = push([["17", "hello", {"trace_id": TRACE, "spanID": SPAN}]], service_name="mythical-server", level="info")
    assert (line.time_unix_nano, line.line, line.service) == (17, "hello", "mythical-server")
    assert (line.trace_id, line.span_id, line.via) == (TRACE, SPAN, "loki")


@pytest.mark.parametrize("key", ["traceID", "traceId", "trace_id"])
def test_the_trace_id_is_found_in_the_line(key: str) -> None:
    """Each spelling in use links the line to its trace, with or without quotes."""
    for text in (f"{key}={TRACE} http.method=GET", f'level=info {key}="{TRACE}"'):
        [line] = push([["1", text]])
        assert line.trace_id == TRACE


@pytest.mark.parametrize("wrong", ["xyz", TRACE[:31], TRACE + "0", "", TRACE.upper()])
def test_an_invalid_trace_id_is_ignored(wrong: str) -> None:
    """The original writes methods and objects as trace IDs; such a line has no ID."""
    [line] = push([["1", f"traceID={wrong} x=1", {"trace_id": wrong}]])
    assert line.trace_id == ""


def test_numbers_as_labels_become_text_and_lone_surrogates_are_replaced() -> None:
    """python-logging-loki sends numbers, and JSON can contain text that protobuf cannot."""
    [line] = push([["1", "a\ud800b"]], job="mythical-server", n=3)
    assert line.labels == {"job": "mythical-server", "n": "3"}
    assert line.line == "a?b"
    assert line.service == "mythical-server"


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"not json", "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b"\xff\xfe\x00", "the body is not JSON"),
        (b"[]", "the body must be"),
        (b'{"streams": {}}', "the body must be"),
        (b'{"streams": [3]}', "streams[0] must be"),
        (b'{"streams": [{"stream": {}, "values": []}, {"stream": [], "values": []}]}', "streams[1] must be"),
        (b'{"streams": [{"stream": {}, "values": [["1", "x"], ["1"]]}]}', "streams[0].values[1] must be"),
        (b'{"streams": [{"stream": {}, "values": [[1, "x"]]}]}', "streams[0].values[0] must be"),
        (b'{"streams": [{"stream": {}, "values": [["-1", "x"]]}]}', "streams[0].values[0] must be"),
        (b'{"streams": [{"stream": {}, "values": [["99999999999999999999", "x"]]}]}', "streams[0].values[0] must be"),
        (b'{"streams": [{"stream": {}, "values": [["1", "x", "y"]]}]}', "streams[0].values[0] must be"),
    ],
)
def test_a_malformed_push_is_rejected_with_the_place_of_the_error(body: bytes, place: str) -> None:
    """The message is one line, with which a sender can be fixed."""
    with pytest.raises(HttpError) as rejection:
        list(read_push(body))
    assert rejection.value.status == 400
    assert rejection.value.message.startswith(place)
    assert "\n" not in rejection.value.message


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.integers(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
streams = st.fixed_dictionaries(
    {
        "stream": st.dictionaries(st.text(), json_values, max_size=3) | json_values,
        "values": st.lists(
            st.tuples(st.integers().map(str), st.text(), st.dictionaries(st.text(), json_values, max_size=2))
            | json_values,
            max_size=3,
        ),
    }
)


@given(st.fixed_dictionaries({"streams": st.lists(streams, max_size=3)}))
def test_any_json_is_either_read_and_convertible_or_rejected(body: object) -> None:
    """No content raises another exception, in the receiver or in the conversion to OTLP."""
    try:
        lines = list(read_push(json.dumps(body).encode()))
    except HttpError:
        return
    export_request(lines, {})


def test_a_line_becomes_a_record_of_its_service_linked_to_its_trace() -> None:
    """Aspire shows a record next to the trace if resource, IDs, and severity match those of the spans."""
    lines = push(
        [["5", f"traceID={TRACE} spanID={SPAN} status=SUCCESS", {"k": "v"}]],
        service_name="mythical-server",
        level="warning",
        beast="unicorn",
    )
    request = ExportLogsServiceRequest.FromString(
        export_request(lines, {"mythical-server": resource_named("as introduced")})
    )
    [of_resource] = request.resource_logs
    assert of_resource.resource.attributes[0].value.string_value == "as introduced"
    [record] = of_resource.scope_logs[0].log_records
    assert (record.trace_id.hex(), record.span_id.hex(), record.time_unix_nano) == (TRACE, SPAN, 5)
    assert (record.severity_number, record.severity_text) == (13, "warning")
    attributes = {pair.key: pair.value.string_value for pair in record.attributes}
    assert (attributes["beast"], attributes["k"]) == ("unicorn", "v")


def test_lines_of_several_services_have_separate_resources() -> None:
    """Each service gets one resource, which has only its name if nothing else is known."""
    lines = push([["1", "a"], ["2", "b"]], service_name="one") + push([["3", "level=error c"]], service_name="two")
    request = ExportLogsServiceRequest.FromString(export_request(lines, {}))
    assert [each.resource.attributes[0].value.string_value for each in request.resource_logs] == ["one", "two"]
    assert [len(each.scope_logs[0].log_records) for each in request.resource_logs] == [2, 1]
    assert request.resource_logs[1].scope_logs[0].log_records[0].severity_number == 17


def protobuf(line: bytes = b"hello", labels: str = '{job="shop"}', seconds: int = 17) -> bytes:
    """Return a push of one line in protobuf."""
    push = LokiPushRequest()
    entry = push.streams.add(labels=labels).entries.add(line=line)
    entry.timestamp.seconds, entry.timestamp.nanos = seconds, 5
    entry.structured_metadata.add(name="trace_id", value=TRACE)
    return push.SerializeToString()


def test_a_push_in_protobuf_is_read() -> None:
    """Alloy, Promtail, and most client libraries send it; a line need not be valid UTF-8."""
    [line] = read_protobuf(protobuf(b"a\xffb", '{service_name="shop", level="info"}'))
    assert (line.time_unix_nano, line.line, line.service) == (17 * 10**9 + 5, "a\ufffdb", "shop")
    assert (line.labels, line.metadata) == ({"service_name": "shop", "level": "info"}, {"trace_id": TRACE})
    assert (line.trace_id, line.via) == (TRACE, "loki")


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("{}", {}),
        (" { } ", {}),
        ('{a="b"}', {"a": "b"}),
        ('{ a = "b" , "c.d"="" , }', {"a": "b", "c.d": ""}),
        (r'{a="\"}\\,\n\t\x41\u00e9\U0001f984"}', {"a": '"}\\,\n\tA\u00e9\U0001f984'}),
        (r'{a="\ud800\Uffffffff"}', {"a": "?\U0010ffff"}),
        ('{a="two\nlines"}', {"a": "two\nlines"}),
    ],
)
def test_labels_are_parsed_as_in_a_query(text: str, labels: dict[str, str]) -> None:
    """Values are quoted as in Go."""
    assert parse_labels(text) == labels


@pytest.mark.parametrize("text", ["", "{", "}", "a", '{a="b"', "{a=b}", '{a="b}', '{="b"}', '{a=~"b"}', '{a="b"} x'])
def test_invalid_labels_are_rejected(text: str) -> None:
    """The message is one line that describes the syntax."""
    with pytest.raises(HttpError, match="labels of a stream") as rejection:
        parse_labels(text)
    assert rejection.value.status == 400


@given(st.text())
def test_any_text_is_labels_or_is_rejected(text: str) -> None:
    """No text raises another exception, and text that Go would quote is read back."""
    with contextlib.suppress(HttpError):
        parse_labels(text)
    quoted = json.dumps(text.encode("utf-8", "replace").decode(), ensure_ascii=False)
    assert parse_labels(f"{{a={quoted}}}") == {"a": json.loads(quoted)}


@pytest.mark.parametrize(
    ("content_type", "coding", "body", "status", "message"),
    [
        ("application/x-protobuf", "", b"no snappy", 400, "snappy content is damaged"),
        ("application/x-protobuf", "snappy", b"\x0a\xff", 400, "logproto.PushRequest"),
        ("application/x-protobuf", "snappy", protobuf(seconds=-1), 400, "timestamp"),
        ("application/x-protobuf", "snappy", protobuf(labels="shop"), 400, "labels"),
        ("application/x-protobuf", "", b"\xff\xff\xff\xff\x0f", 413, "smaller batches"),
        ("text/plain", "", b'{"streams": []}', 415, "application/json"),
    ],
)
def test_a_body_that_is_not_a_push_is_rejected_in_one_line(
    content_type: str, coding: str, body: bytes, status: int, message: str
) -> None:
    """The message has the error, or what to send."""
    receiver = LokiReceiver(TelemetryStore(Limits()), 1000, lambda _: None)
    headers = HTTPMessage()
    headers["Content-Type"], headers["Content-Encoding"] = content_type, coding
    with pytest.raises(HttpError, match=message) as rejection:
        receiver.routes()[0].handler(Request(headers, {}, (), body))
    assert rejection.value.status == status
