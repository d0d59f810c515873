"""OTLP requests are stored and forwarded, or rejected; malformed and hostile ones are included."""

import json
import math
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from local.gateway.api import Api
from local.gateway.http_error import HttpError
from local.gateway.limits import Limits
from local.gateway.otlp_json import plain
from local.gateway.pprof import PprofReader
from local.gateway.receive_otlp import OtlpReceiver
from local.gateway.telemetry_store import TelemetryStore
from local.gateway.web import Request


class Gateway:
    """A receiver and an API on one window, without ports."""

    def __init__(self) -> None:
        self.forwarded: list[tuple[str, bytes, int]] = []
        window = TelemetryStore(Limits())
        self.otlp = OtlpReceiver(window, lambda *parcel: self.forwarded.append(parcel), lambda *_: None)
        self.routes = Api(window, PprofReader(1000), dict, None, {}).routes()

    def get(self, path: str, **query: str) -> Any:
        """Return the response to GET `path`."""
        for route in self.routes:
            captured = route.match(path)
            if captured is not None:
                headers: Any = {}
                return json.loads(
                    route.handler(Request(headers, query, captured, b"")).body, parse_constant=pytest.fail
                )
        raise AssertionError(path)

    def post_json(self, path: str, body: object) -> int:
        """Return the status of an OTLP/JSON request, whose body may be bytes."""
        [route] = [route for route in self.otlp.routes() if route.path == path]
        headers: Any = {"Content-Type": "application/json"}
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        return route.handler(Request(headers, {}, (), sent)).status


def metrics_request(metric: Metric, service: str = "mythical-server") -> bytes:
    """Return one encoded metric of a service."""
    request = ExportMetricsServiceRequest()
    of_resource = request.resource_metrics.add()
    of_resource.resource.attributes.add(key="service.name", value=AnyValue(string_value=service))
    of_resource.scope_metrics.add().metrics.append(metric)
    return request.SerializeToString()


@pytest.mark.parametrize("path", ["/v1/traces", "/v1/metrics", "/v1/logs"])
def test_a_damaged_request_is_rejected_and_not_forwarded(path: str) -> None:
    """The destination could not decode it either."""
    gateway = Gateway()
    with pytest.raises(HttpError, match="in protobuf") as rejection:
        gateway.otlp.take(path, b"\x0a\xff\xff")
    assert rejection.value.status == 400
    assert gateway.forwarded == []


def test_an_accepted_request_is_forwarded_unchanged() -> None:
    """The viewer gets the same bytes, with the number of items."""
    gateway = Gateway()
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(trace_id=b"\x01" * 16, span_id=b"\x02" * 8)
    gateway.otlp.take("/v1/traces", request.SerializeToString())
    gateway.otlp.take("/v1/traces", b"")
    assert gateway.forwarded == [("/v1/traces", request.SerializeToString(), 1)]


def test_ids_of_any_length_and_unknown_kinds_are_accepted() -> None:
    """No content of a span breaks the lists."""
    gateway = Gateway()
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    spans.add(trace_id=b"\x01" * 99, span_id=b"", parent_span_id=b"\x03", kind=77, name="<script>")
    spans.add()
    gateway.otlp.take("/v1/traces", request.SerializeToString())
    [trace] = [trace for trace in gateway.get("/api/traces") if trace["trace_id"]]
    [span] = gateway.get(f"/api/traces/{trace['trace_id']}")
    assert (span["kind"], span["name"], span["service"]) == ("INTERNAL", "<script>", "unknown_service")


def test_values_that_json_does_not_support_become_text() -> None:
    """With a NaN among the attributes, a browser could not parse the response."""
    assert plain(AnyValue(double_value=math.nan)) == "NaN"
    assert plain(AnyValue(double_value=-math.inf)) == "-Infinity"
    assert plain(AnyValue(bytes_value=b"\x00\xff")) == "AP8="
    assert plain(AnyValue(array_value=ArrayValue(values=[AnyValue(int_value=1), AnyValue()]))) == [1, None]


def test_a_series_is_its_latest_point_per_attribute_set() -> None:
    """Cumulative points replace each other; another attribute set is another point of the same metric."""
    gateway = Gateway()
    for value, beast in ((1, "unicorn"), (5, "unicorn"), (3, "owlbear")):
        metric = Metric(name="mythical_messages_recorded", unit="1")
        metric.sum.is_monotonic = True
        metric.sum.aggregation_temporality = 2  # type: ignore[assignment]
        point = metric.sum.data_points.add(as_int=value)
        point.attributes.append(KeyValue(key="beast", value=AnyValue(string_value=beast)))
        gateway.otlp.take("/v1/metrics", metrics_request(metric))
    [response] = gateway.get("/api/metrics", name="mythical_messages_recorded")
    assert (response["kind"], response["monotonic"], response["temporality"]) == ("sum", True, "CUMULATIVE")
    latest = {point["attributes"]["beast"]: point["value"] for point in response["points"]}
    assert latest == {"unicorn": 5, "owlbear": 3}
    assert gateway.get("/api/metrics", service="mythical-recorder") == []


def test_each_kind_of_metric_is_returned() -> None:
    """Gauge, histogram, exponential histogram, and summary, with exemplars and values that JSON does not support."""
    gateway = Gateway()
    gauge = Metric(name="gauge")
    gauge.gauge.data_points.add(as_double=math.inf)
    histogram = Metric(name="histogram")
    point = histogram.histogram.data_points.add(count=2, sum=3, explicit_bounds=[10], bucket_counts=[1, 1])
    point.exemplars.add(as_double=2.5, trace_id=b"\x01" * 16, span_id=b"\x02" * 8, time_unix_nano=9)
    exponential = Metric(name="exponential")
    exponential.exponential_histogram.data_points.add(count=2, scale=3).positive.bucket_counts.append(2)
    summary = Metric(name="summary")
    summary.summary.data_points.add(count=1).quantile_values.add(quantile=0.5, value=4)
    for metric in (gauge, histogram, exponential, summary, Metric(name="empty")):
        gateway.otlp.take("/v1/metrics", metrics_request(metric))
    points = {metric["name"]: metric["points"][0] for metric in gateway.get("/api/metrics")}
    assert points["gauge"]["value"] == "Infinity"
    assert (points["histogram"]["bounds"], points["histogram"]["bucket_counts"]) == ([10], [1, 1])
    assert points["histogram"]["exemplars"] == [
        {"value": 2.5, "trace_id": "01" * 16, "span_id": "02" * 8, "time_unix_nano": 9}
    ]
    assert points["exponential"]["positive"]["bucket_counts"] == [2]
    assert points["summary"]["quantiles"] == {"0.5": 4}
    assert "empty" not in points


def test_otlp_logs_are_lines_of_their_trace() -> None:
    """A record is found by the ID of its trace and has its attributes as metadata."""
    gateway = Gateway()
    request = ExportLogsServiceRequest()
    record = (
        request.resource_logs.add()
        .scope_logs.add()
        .log_records.add(trace_id=b"\x01" * 16, severity_text="INFO", observed_time_unix_nano=4)
    )
    record.body.kvlist_value.values.add(key="a", value=AnyValue(int_value=1))
    record.attributes.add(key="beast", value=AnyValue(string_value="unicorn"))
    gateway.otlp.take("/v1/logs", request.SerializeToString())
    [line] = gateway.get("/api/logs", trace_id="01" * 16, contains='"a"')
    assert (line["line"], line["labels"]["level"], line["via"]) == ('{"a": 1}', "info", "otlp")
    assert line["metadata"] == {"beast": "unicorn", "trace_id": "01" * 16}
    assert line["time_unix_nano"] == 4
    assert gateway.get("/api/logs", trace_id="02" * 16) == []


def test_otlp_json_writes_ids_in_hex() -> None:
    """The specification differs from protobuf's JSON here, and the IDs must be the same."""
    gateway = Gateway()
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    span = {"traceId": trace_id, "spanId": "b7ad6b7169203331", "name": "x", "kind": 2, "startTimeUnixNano": "5"}
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}
    assert gateway.post_json("/v1/traces", body) == 200
    [response] = gateway.get(f"/api/traces/{trace_id}")
    assert (response["span_id"], response["kind"], response["start_unix_nano"]) == ("b7ad6b7169203331", "SERVER", 5)
    wrongs: list[object] = [
        [],
        {"resourceSpans": 3},
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "zz"}]}]}]},
    ]
    for wrong in wrongs:
        with pytest.raises(HttpError) as rejection:
            gateway.post_json("/v1/traces", wrong)
        assert rejection.value.status == 400


@pytest.mark.parametrize(
    ("name", "read"),
    [(rb"a\ud800b", "a?b"), (b"a\xffb", "a\ufffdb"), (rb"a\ud83d\ude00b", "a\U0001f600b"), (b"\xc3\xa9", "\xe9")],
)
def test_characters_that_no_protobuf_can_hold_are_replaced(name: bytes, read: str) -> None:
    """A name that was cut within a character must not make its whole batch invalid; the Collector accepts both."""
    gateway = Gateway()
    trace_id = "2af7651916cd43dd8448eb211c80319c"
    span = b'{"traceId": "%s", "spanId": "b7ad6b7169203331", "name": "%s"}' % (trace_id.encode(), name)
    assert gateway.post_json("/v1/traces", b'{"resourceSpans": [{"scopeSpans": [{"spans": [%s]}]}]}' % span) == 200
    [response] = gateway.get(f"/api/traces/{trace_id}")
    assert response["name"] == read


def test_otlp_json_accepts_proto_names_and_unknown_fields() -> None:
    """The Collector accepts both spellings of a name, enum names, and integers as text, and ignores other fields."""
    gateway = Gateway()
    trace_id = "1af7651916cd43dd8448eb211c80319c"
    span = {
        "trace_id": trace_id.upper(),
        "span_id": "b7ad6b7169203331",
        "name": "x",
        "kind": "SPAN_KIND_CLIENT",
        "start_time_unix_nano": 5,
        "endTimeUnixNano": "18446744073709551615",
        "attributes": [
            {"key": "count", "value": {"intValue": "9007199254740993"}},
            {"key": "share", "value": {"doubleValue": 1}},
            {"key": "list", "value": {"arrayValue": {"values": [{"boolValue": True}, {}]}}},
            {"key": "later", "value": {"laterValue": 1}},
        ],
        "status": {"code": "STATUS_CODE_OF_TOMORROW"},
        "links": [{"trace_id": trace_id, "span_id": "00f067aa0ba902b7"}],
        "laterField": {"traceId": 5},
    }
    body = {"resource_spans": [{"scope_spans": [{"spans": [span], "schemaUrl": ""}]}]}
    assert gateway.post_json("/v1/traces", body) == 200
    [response] = gateway.get(f"/api/traces/{trace_id}")
    assert (response["kind"], response["start_unix_nano"], response["end_unix_nano"]) == ("CLIENT", 5, 2**64 - 1)
    assert response["attributes"] == {"count": 2**53 + 1, "share": 1.0, "list": [True, None], "later": None}
    assert (response["status"]["code"], response["links"][0]["trace_id"]) == ("UNSET", trace_id)


def test_invalid_queries_are_rejected() -> None:
    """The message names an invalid parameter; a trace that is not stored is a 404."""
    gateway = Gateway()
    for query in ({"limit": "many"}, {"since_s": "-1"}, {"limit": "nan"}):
        with pytest.raises(HttpError) as rejection:
            gateway.get("/api/traces", **query)
        assert rejection.value.status == 400
        assert next(iter(query)) in rejection.value.message
    with pytest.raises(HttpError) as rejection:
        gateway.get("/api/traces/zz")
    assert rejection.value.status == 400
    with pytest.raises(HttpError) as rejection:
        gateway.get("/api/traces/" + "00" * 16)
    assert rejection.value.status == 404
    assert gateway.get("/api/traces", limit="inf") == []
