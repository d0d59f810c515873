"""The gateway as a process, with the real exporters sending to it."""

import gzip
import http.client
import json
import logging
import re
import secrets
import socket
import subprocess
import sys
import threading
import urllib.request
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cramjam
import grpc  # type: ignore[import-untyped]
import logging_loki
import pytest
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode

from local.gateway.push_pb2 import LokiPushRequest
from tests.integration.conftest import Gateway, eventually

LOOPBACK = "127.0.0.1"
FLAGS = ("--otlp-grpc", "--otlp-http", "--loki", "--pyroscope", "--faro", "--page")


@pytest.fixture
def name() -> str:
    """A service name that no other test uses."""
    return f"service-{secrets.token_hex(4)}"


def span_exporter(gateway: Gateway, protocol: str) -> SpanExporter:
    """Return the SDK's exporter for the gateway."""
    if protocol == "grpc":
        return GrpcSpans(endpoint=f"{LOOPBACK}:{gateway.ports['otlp_grpc']}", insecure=True)
    url = f"http://{LOOPBACK}:{gateway.ports['otlp_http']}/v1/traces"
    return HttpSpans(endpoint=url, compression=Compression.Gzip if protocol == "http gzip" else None)


def metric_exporter(gateway: Gateway, protocol: str) -> MetricExporter:
    """Return the SDK's exporter for the gateway."""
    if protocol == "grpc":
        return GrpcMetrics(endpoint=f"{LOOPBACK}:{gateway.ports['otlp_grpc']}", insecure=True)
    return HttpMetrics(endpoint=f"http://{LOOPBACK}:{gateway.ports['otlp_http']}/v1/metrics")


def tracers(gateway: Gateway, service: str, protocol: str = "http") -> TracerProvider:
    """Return a provider that sends each span when it ends."""
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(SimpleSpanProcessor(span_exporter(gateway, protocol)))
    return provider


def send(port: int, body: bytes, path: str, content_type: str, **headers: str) -> tuple[int, str]:
    """Send a POST; return status and text of the response."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=60)
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", path, body, {"Content-Type": content_type} | fields)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


@pytest.mark.parametrize("protocol", ["grpc", "http", "http gzip"])
def test_spans_arrive_over_each_protocol(gateway: Gateway, name: str, protocol: str) -> None:
    """The API returns everything that the SDK exports, with links, events, status and resource."""
    provider = tracers(gateway, name, protocol)
    tracer = provider.get_tracer("test")
    with tracer.start_as_current_span("first", kind=SpanKind.SERVER) as first:
        pass
    with tracer.start_as_current_span("second", attributes={"beast": "unicorn"}) as second:
        second.add_link(first.get_span_context())
        second.add_event("fault", {"n": 1})
        second.set_status(Status(StatusCode.ERROR, "injected"))
    provider.shutdown()
    later, earlier = gateway.get("spans", service=name)
    assert (earlier["name"], earlier["kind"], later["name"]) == ("first", "SERVER", "second")
    assert later["status"] == {"code": "ERROR", "message": "injected"}
    assert later["attributes"] == {"beast": "unicorn"}
    assert later["links"][0]["span_id"] == earlier["span_id"]
    assert (later["events"][0]["name"], later["events"][0]["attributes"]) == ("fault", {"n": 1})
    assert (later["resource"]["service.name"], later["scope"]) == (name, "test")
    [trace, _] = gateway.get("traces", service=name)
    assert (trace["root"], trace["errors"], trace["services"]) == ("second", 1, [name])


def test_a_trace_through_three_services_shows_its_hops(gateway: Gateway, name: str) -> None:
    """Requester to server, server to database, and through the broker to the recorder, in one trace."""
    requester, server, recorder = (tracers(gateway, f"{name}-{part}", "grpc") for part in ("req", "srv", "rec"))
    with requester.get_tracer("test").start_as_current_span("requester", kind=SpanKind.CLIENT) as root:
        with server.get_tracer("test").start_as_current_span("GET /unicorn", kind=SpanKind.SERVER):
            attributes = {"db.system.name": "postgresql"}
            server.get_tracer("test").start_span("SELECT", kind=SpanKind.CLIENT, attributes=attributes).end()
        attributes = {"messaging.system": "rabbitmq"}
        with requester.get_tracer("test").start_as_current_span(
            "publish_to_queue", kind=SpanKind.PRODUCER, attributes=attributes
        ):
            recorder.get_tracer("test").start_span("process_message", kind=SpanKind.CONSUMER).end()
    for provider in (requester, server, recorder):
        provider.shutdown()
    hops = {(hop["from"], hop["to"], hop["kind"]) for hop in gateway.get("summary")["hops"]}
    assert {
        (f"{name}-req", f"{name}-srv", "http"),
        (f"{name}-srv", "postgresql", "sql"),
        (f"{name}-req", "rabbitmq", "publish"),
        ("rabbitmq", f"{name}-rec", "deliver"),
    } <= hops
    spans = gateway.get(f"traces/{root.get_span_context().trace_id:032x}")
    assert [span["name"] for span in spans] == [
        "requester",
        "GET /unicorn",
        "SELECT",
        "publish_to_queue",
        "process_message",
    ]


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_metrics_arrive_with_their_exemplars(gateway: Gateway, name: str, protocol: str) -> None:
    """A histogram keeps its buckets, a counter its sum, and both lead to the trace they were measured in."""
    resource = Resource.create({"service.name": name})
    reader = PeriodicExportingMetricReader(metric_exporter(gateway, protocol), export_interval_millis=60_000)
    provider = MeterProvider([reader], resource=resource)
    meter = provider.get_meter("test")
    times = meter.create_histogram("mythical_request_times", "ms", explicit_bucket_boundaries_advisory=[10, 20])
    with TracerProvider().get_tracer("test").start_as_current_span("request") as span:
        times.record(15, {"beast": "unicorn"})
        meter.create_counter("mythical_messages_recorded").add(3)
    provider.shutdown()
    [histogram] = gateway.get("metrics", service=name, name="mythical_request_times")
    [point] = histogram["points"]
    assert (histogram["kind"], histogram["unit"]) == ("histogram", "ms")
    assert (point["bounds"], point["bucket_counts"], point["sum"]) == ([10, 20], [0, 1, 0], 15)
    assert point["exemplars"][0]["trace_id"] == f"{span.get_span_context().trace_id:032x}"
    [counter] = gateway.get("metrics", service=name, name="mythical_messages_recorded")
    assert (counter["kind"], counter["monotonic"], counter["points"][0]["value"]) == ("sum", True, 3)


def test_lines_of_python_logging_loki_arrive(gateway: Gateway, name: str) -> None:
    """The stock handler's push is accepted, and a query for the trace id finds the line."""
    trace_id = secrets.token_hex(16)
    handler = logging_loki.LokiHandler(
        url=f"http://{LOOPBACK}:{gateway.ports['loki']}/loki/api/v1/push", tags={"service_name": name}, version="1"
    )
    logger = logging.Logger(name, logging.INFO)
    logger.addHandler(handler)
    logger.info("traceID=%s http.method=GET", trace_id, extra={"tags": {"beast": "unicorn"}})
    handler.close()
    [line] = gateway.get("logs", trace_id=trace_id)
    assert line["line"] == f"traceID={trace_id} http.method=GET"
    assert (line["labels"]["beast"], line["labels"]["service_name"], line["via"]) == ("unicorn", name, "loki")


def test_a_gzipped_push_with_structured_metadata_arrives(gateway: Gateway, name: str) -> None:
    """Batching senders use this format."""
    trace_id = secrets.token_hex(16)
    values = [[str(number), f"line {number}", {"traceID": trace_id}] for number in range(1, 501)]
    body = gzip.compress(json.dumps({"streams": [{"stream": {"service_name": name}, "values": values}]}).encode())
    port = gateway.ports["loki"]
    status, _ = send(port, body, "/loki/api/v1/push", "application/json; charset=utf-8", Content_Encoding="gzip")
    assert status == 204
    assert len(gateway.get("logs", service=name, limit=1000)) == 500
    [line] = gateway.get("logs", trace_id=trace_id, contains="line 77")
    assert line["metadata"] == {"traceID": trace_id}


PROFILED = """
import pyroscope, sys, time
pyroscope.configure(application_name=sys.argv[1], server_address=sys.argv[2], tags={"namespace": "production"})
def beast_work(until):
    while time.monotonic() < until:
        sum(range(1000))
with pyroscope.tag_wrapper({"span_id": "00f067aa0ba902b7"}):
    beast_work(time.monotonic() + 2)
pyroscope.shutdown()
"""


def test_profiles_of_pyroscope_io_arrive_with_their_span(gateway: Gateway, name: str) -> None:
    """The real profiler's push becomes a flame graph with the busy function, also for a single span."""
    address = f"http://{LOOPBACK}:{gateway.ports['pyroscope']}"
    subprocess.run([sys.executable, "-c", PROFILED, name, address], check=True, timeout=60)  # noqa: S603 - a constant program
    [profile, *_] = gateway.poll(lambda it: it.get("profiles", service=name))
    assert profile["type"] == "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
    assert profile["labels"]["namespace"] == "production"
    assert profile["span_ids"] == 1
    flame = gateway.get(f"profiles/{name}/flame", span_id="00f067aa0ba902b7")
    assert "beast_work" in json.dumps(flame)
    assert 5e8 < flame["value"] < 3e9
    [span] = gateway.get(f"profiles/{name}/spans")
    assert span["span_id"] == "00f067aa0ba902b7"


def test_the_summary_counts_each_signal(gateway: Gateway, name: str) -> None:
    """Count, rate and age per service and signal match the sent data."""
    provider = tracers(gateway, name)
    for _ in range(3):
        provider.get_tracer("test").start_span("x").end()
    provider.shutdown()
    [cell] = [cell for cell in gateway.get("summary")["cells"] if cell["service"] == name]
    assert (cell["signal"], cell["count"]) == ("traces", 3)
    assert cell["rate_per_s"] > 0
    assert cell["age_s"] < 10


@pytest.mark.parametrize(
    ("port", "path", "content_type", "body", "status", "expected"),
    [
        ("loki", "/loki/api/v1/push", "application/x-protobuf", b"\x00snappy", 400, "snappy content"),
        ("loki", "/loki/api/v1/push", "text/plain", b'{"streams":[]}', 415, "application/json"),
        ("loki", "/loki/api/v1/push", "application/json", b"{", 400, "not JSON"),
        ("loki", "/elsewhere", "application/json", b"{}", 404, "POST /loki/api/v1/push"),
        ("otlp_http", "/v1/traces", "application/x-protobuf", b"\x0a\xff", 400, "ExportTraceServiceRequest"),
        ("otlp_http", "/v1/logs", "text/plain", b"", 415, "application/x-protobuf"),
        ("otlp_http", "/v1/nothing", "application/x-protobuf", b"", 404, "POST /v1/traces"),
        ("pyroscope", "/push.v1.PusherService/Push", "application/proto", b"\x0a\xff", 400, "PushRequest"),
        ("pyroscope", "/ingest", "text/plain", b"main 1", 400, "name=application"),
        ("pyroscope", "/ingest?name=x&format=pprof", "text/plain", b"\x0a\xff", 400, "pprof"),
        ("pyroscope", "/elsewhere", "application/proto", b"", 404, "POST /push.v1.PusherService/Push, POST /ingest"),
        ("page", "/api/summary", "application/json", b"{}", 405, "accepts GET"),
    ],
)
def test_invalid_data_is_rejected_in_one_line(  # noqa: PLR0917 - a table
    gateway: Gateway, port: str, path: str, content_type: str, body: bytes, status: int, expected: str
) -> None:
    """The response has the problem and the accepted format."""
    actual, text = send(gateway.ports[port], body, path, content_type)
    assert actual == status
    assert expected in text
    assert text.count("\n") == 1


def test_a_too_large_body_is_rejected(gateway: Gateway) -> None:
    """Compressed or not, a body above the limit gets 413, and the client can read the response."""
    port = gateway.ports["loki"]
    for body, headers in (
        (bytes(17 << 20), {}),
        (gzip.compress(bytes(17 << 20)), {"Content_Encoding": "gzip"}),
    ):
        status, text = send(port, body, "/loki/api/v1/push", "application/json", **headers)
        assert status == 413
        assert "smaller batches" in text


@pytest.mark.parametrize(
    ("port", "path", "content_type", "body", "status"),
    [
        ("otlp_http", "/v1/traces", "application/json", b'{"resourceSpans":[]}', 200),
        ("otlp_http", "/v1/logs", "application/x-protobuf", b"", 200),
        ("loki", "/loki/api/v1/push", "application/json", b'{"streams":[]}', 204),
        ("pyroscope", "/push.v1.PusherService/Push", "application/proto", b"", 200),
    ],
)
def test_each_port_accepts_chunked_bodies(  # noqa: PLR0917 - a table
    gateway: Gateway, port: str, path: str, content_type: str, body: bytes, status: int
) -> None:
    """The exporters of the Node SDK, and others that stream, don't know the length in advance."""
    connection = http.client.HTTPConnection(LOOPBACK, gateway.ports[port], timeout=60)
    pieces = [body[at : at + 7] for at in range(0, len(body), 7)]
    for _ in range(2):  # on one connection
        connection.request("POST", path, iter(pieces), {"Content-Type": content_type}, encode_chunked=True)
        response = connection.getresponse()
        assert (response.status, response.will_close) == (status, False)
        response.read()
    connection.close()


def test_lines_arrive_on_all_paths_and_in_all_formats_of_alloy(gateway: Gateway, name: str) -> None:
    """Alloy's loki.write, Promtail and most client libraries send protobuf in Snappy; a script sends plain text."""
    port = gateway.ports["loki"]
    push = LokiPushRequest()
    push.streams.add(labels=f'{{service_name="{name}"}}').entries.add(line=b"from protobuf").timestamp.GetCurrentTime()
    body = push.SerializeToString()
    assert len(body) < 128
    compressed = bytes([len(body), 60 << 2, len(body) - 1]) + body  # a Snappy block with one literal
    for path in ("/loki/api/v1/push", "/api/v1/push"):
        for headers in ({}, {"Content_Encoding": "snappy"}):
            assert send(port, compressed, path, "application/x-protobuf", **headers) == (204, "")
    for path in ("/loki/api/v1/raw", "/api/v1/raw"):
        assert send(port, f"{name} one\r\n\n{name} two".encode(), path, "text/plain") == (204, "")
    assert len(gateway.get("logs", service=name)) == 4
    raw = gateway.get("logs", service="unknown_service", contains=name)
    assert sorted(line["line"] for line in raw) == 2 * [f"{name} one"] + 2 * [f"{name} two"]


@pytest.mark.parametrize("coding", ["deflate", "zlib", "snappy", "GZIP"])
def test_otlp_arrives_with_each_content_encoding(gateway: Gateway, name: str, coding: str) -> None:
    """The Collector's HTTP exporters have a setting for it."""
    body = json.dumps({"resourceLogs": [{"resource": named(name), "scopeLogs": [{"logRecords": [{}]}]}]}).encode()
    compressors = {
        "deflate": zlib.compress,
        "zlib": zlib.compress,
        "snappy": lambda content: bytes(cramjam.snappy.compress_raw(content)),
        "GZIP": gzip.compress,
    }
    compressed = compressors[coding](body)
    status, _ = send(
        gateway.ports["otlp_http"], compressed, "/v1/logs", "Application/JSON;charset=UTF-8", Content_Encoding=coding
    )
    assert status == 200
    assert len(gateway.get("logs", service=name)) == 1


def named(service: str) -> dict[str, Any]:
    """Return a resource in OTLP/JSON."""
    return {"attributes": [{"key": "service.name", "value": {"stringValue": service}}], "droppedAttributesCount": 0}


@pytest.mark.parametrize(("port", "path"), [("loki", "/ready"), ("pyroscope", "/ready"), ("page", "/-/ready")])
def test_each_port_has_a_readiness_endpoint(gateway: Gateway, port: str, path: str) -> None:
    """Scripts use it to wait for the collector before they start its senders."""
    with urllib.request.urlopen(f"http://{LOOPBACK}:{gateway.ports[port]}{path}", timeout=10) as response:
        assert (response.status, response.read()) == (200, b"ready\n")


def test_pipelined_requests_are_answered_in_order(gateway: Gateway) -> None:
    """HTTP 1.1 allows to send the next request before the response, after an empty line (RFC 9112, 9.3.2 and 2.2)."""
    requests = b"".join(
        b"%b /v1/traces HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" % method
        + b"Content-Length: 2\r\n%b\r\n{}\r\n" % header
        for method, header in (
            (b"POST", b""),
            (b"HEAD", b"Upgrade: h2c\r\n"),
            (b"OPTIONS", b""),
            (b"POST", b"Connection: close\r\n"),
        )
    )
    with socket.create_connection((LOOPBACK, gateway.ports["otlp_http"]), timeout=10) as client:
        client.sendall(requests)
        responses = b"".join(iter(lambda: client.recv(65536), b""))
    assert re.findall(rb"HTTP/1.1 (\d+)", responses) == [b"200", b"405", b"405", b"200"]


def test_a_malformed_grpc_request_is_an_invalid_argument(gateway: Gateway) -> None:
    """The status makes the sender not retry."""
    with grpc.insecure_channel(f"{LOOPBACK}:{gateway.ports['otlp_grpc']}") as channel:
        export = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        with pytest.raises(grpc.RpcError) as error:
            export(b"\x0a\xff", timeout=60)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "ExportTraceServiceRequest" in error.value.details()


def test_invalid_requests_are_answered_and_the_port_continues_to_serve(gateway: Gateway) -> None:
    """Data that isn't HTTP gets a response, and the next request is served."""
    for noise in (
        b"\x16\x03\x01\x02\x00\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST /v1/traces HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ):
        with socket.create_connection((LOOPBACK, gateway.ports["otlp_http"]), timeout=60) as connection:
            connection.sendall(noise)
            assert connection.recv(4096)
    assert send(gateway.ports["otlp_http"], b"", "/v1/traces", "application/x-protobuf")[0] == 200


def test_the_page_serves_only_this_machine(gateway: Gateway) -> None:
    """Another Host header is rejected, and the page's policy forbids scripts and styles of other sites."""
    connection = http.client.HTTPConnection(LOOPBACK, gateway.ports["page"], timeout=60)
    connection.request("GET", "/api/summary", headers={"Host": "evil.example"})
    rejected = connection.getresponse()
    assert (rejected.status, rejected.read()) == (
        403,
        b"use localhost, an IP address or the name of this machine\n",
    )
    connection.request("GET", "/")
    page = connection.getresponse()
    assert b"<title>" in page.read()
    assert page.headers["Content-Security-Policy"].startswith("default-src 'self'")
    connection.close()


class Viewer(ThreadingHTTPServer):
    """A stand-in for the Aspire dashboard: accepts OTLP over HTTP, or answers with `status`."""

    def __init__(self, port: int = 0) -> None:
        super().__init__((LOOPBACK, port), _ViewerHandler)
        self.status = 200
        self.accepted: list[tuple[str, bytes]] = []
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def records(self) -> list[Any]:
        """Return the log records accepted so far, each with its resource."""
        requests = [ExportLogsServiceRequest.FromString(body) for path, body in self.accepted if path == "/v1/logs"]
        return [
            (of_resource.resource, record)
            for request in requests
            for of_resource in request.resource_logs
            for of_scope in of_resource.scope_logs
            for record in of_scope.log_records
        ]

    def spans(self) -> list[str]:
        """Return the names of the spans accepted so far."""
        requests = [ExportTraceServiceRequest.FromString(body) for path, body in self.accepted if path == "/v1/traces"]
        return [request.resource_spans[0].scope_spans[0].spans[0].name for request in requests]


class _ViewerHandler(BaseHTTPRequestHandler):
    server: Viewer

    def do_POST(self) -> None:
        """Accept the body if the status is 200."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.status == 200:
            self.server.accepted.append((self.path, body))
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's signature
        """Log nothing."""


class SeparateGateway:
    """A gateway for one test, with additional flags."""

    def __init__(self, *flags: str) -> None:
        any_port = [part for flag in FLAGS for part in (flag, "0")]
        self.process = subprocess.Popen(  # noqa: S603 - a constant module
            [sys.executable, "-m", "local.gateway", *any_port, *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert self.process.stdout
        ready = re.fullmatch(r"ready (\{.*\})\n", self.process.stdout.readline())
        assert ready
        self.gateway = Gateway(self.process, json.loads(ready[1]))  # type: ignore[arg-type]  # only for queries

    def stop(self) -> tuple[int, str]:
        """Send SIGTERM; return the exit code and standard error. Fail if the process does not exit by itself."""
        self.process.terminate()
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors


@pytest.fixture
def viewer() -> Iterator[Viewer]:
    """A running stand-in for the viewer."""
    server = Viewer()
    yield server
    server.shutdown()
    server.server_close()


def push_line(gateway: Gateway, service: str, text: str) -> None:
    """Push one line to Loki's port."""
    body = {"streams": [{"stream": {"service_name": service, "level": "info"}, "values": [["1", text]]}]}
    status, _ = send(gateway.ports["loki"], json.dumps(body).encode(), "/loki/api/v1/push", "application/json")
    assert status == 204


def test_traces_and_lines_are_forwarded_under_one_resource(viewer: Viewer) -> None:
    """A line waits for its service's first span, because otherwise the viewer shows the service twice."""
    separate = SeparateGateway("--forward-otlp", f"http://{LOOPBACK}:{viewer.server_port}")
    trace_id = secrets.token_hex(16)
    push_line(separate.gateway, "mythical-server", f"traceID={trace_id} x=1")
    provider = tracers(separate.gateway, "mythical-server")
    provider.get_tracer("test").start_span("request").end()
    provider.shutdown()
    eventually(lambda: viewer.records() and viewer.spans(), what="a line and a span at the viewer")
    [(resource, record)] = viewer.records()
    assert {pair.key for pair in resource.attributes} >= {"service.name", "service.instance.id"}
    assert (record.trace_id.hex(), record.severity_number) == (trace_id, 9)
    assert viewer.spans() == ["request"]
    eventually(lambda: separate.gateway.get("summary")["forward"]["sent"] == 2, what="two items counted as sent")
    assert separate.stop() == (0, "")


def test_an_unavailable_viewer_does_not_delay_senders(viewer: Viewer) -> None:
    """While it rejects data, pushes are answered at once, and the oldest items are dropped and counted."""
    viewer.status = 503
    separate = SeparateGateway("--forward-otlp", f"http://{LOOPBACK}:{viewer.server_port}", "--max-forward-items", "10")
    provider = tracers(separate.gateway, "mythical-server")
    for number in range(30):
        provider.get_tracer("test").start_span(f"span {number}").end()
    provider.shutdown()
    counts = separate.gateway.get("summary")["forward"]
    assert counts["dropped"] in {19, 20}  # one of them may be in flight
    assert counts["waiting"] == 10
    viewer.status = 200
    eventually(lambda: separate.gateway.get("summary")["forward"]["waiting"] == 0, what="an empty queue")
    eventually(lambda: viewer.spans()[-1:] == ["span 29"], what="the newest span at the viewer")
    assert viewer.spans()[-10:] == [f"span {number}" for number in range(20, 30)]
    assert separate.stop() == (0, "")


def test_permanently_rejected_data_is_not_retried(viewer: Viewer) -> None:
    """A 400 is counted as failed, and the next item is sent."""
    viewer.status = 400
    separate = SeparateGateway("--forward-otlp", f"http://{LOOPBACK}:{viewer.server_port}")
    provider = tracers(separate.gateway, "mythical-server")
    provider.get_tracer("test").start_span("rejected").end()
    eventually(lambda: separate.gateway.get("summary")["forward"]["failed"] == 1, what="a failed item")
    viewer.status = 200
    provider.get_tracer("test").start_span("accepted").end()
    eventually(lambda: viewer.spans() == ["accepted"], what="the next span")
    provider.shutdown()
    assert separate.stop() == (0, "")


def test_the_gateway_stops_while_the_viewer_is_unreachable() -> None:
    """A refused connection or idle clients don't delay the exit, and there is no stack trace."""
    separate = SeparateGateway("--forward-otlp", f"http://{LOOPBACK}:1")
    provider = tracers(separate.gateway, "mythical-server", "grpc")
    provider.get_tracer("test").start_span("lost").end()
    with socket.create_connection((LOOPBACK, separate.gateway.ports["loki"])):
        assert separate.stop() == (0, "")
    provider.shutdown()


@pytest.mark.parametrize("flag", FLAGS)
def test_a_port_in_use_is_reported_with_a_remedy(flag: str) -> None:
    """The gateway prints one line without a stack trace and exits with code 1."""
    with socket.create_server((LOOPBACK, 0)) as holder:
        port = holder.getsockname()[1]
        others = [part for other in FLAGS if other != flag for part in (other, "0")]
        result = subprocess.run(  # noqa: S603 - a constant module
            [sys.executable, "-m", "local.gateway", *others, flag, str(port)],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert (result.returncode, result.stdout) == (1, "")
    assert f"{LOOPBACK}:{port}" in result.stderr
    assert flag in result.stderr
    assert result.stderr.count("\n") == 1
