"""Pushes of traces, metrics, and logs count as delivered only if an OTLP receiver confirms them, over each protocol."""

import logging
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager

import grpc  # type: ignore[import-untyped]  # its stubs are a separate package
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData, NumberDataPoint
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from common.fast.layer import FastCollector
from common.telemetry import delivery
from common.telemetry.logs.otlp import OtlpHandler
from common.telemetry.metrics import meter_provider
from common.telemetry.settings import Collector, Signal
from common.telemetry.traces import batch_processor
from tests.unit.telemetry.push_sink import LOGIN_PAGE, LOOPBACK, REDIRECT, Reply, Sink

HTTP = "http/protobuf"
SPANS, LINES = 7, 9
PROTOBUF = (("Content-Type", "application/x-protobuf"),)


@pytest.fixture(autouse=True)
def _each_line_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log at once: lines about one signal are otherwise at least half a minute apart."""
    monkeypatch.setattr(delivery, "LOG_INTERVAL_S", 0.0)


def partial(signal: Signal, rejected: int, message: str = "too many") -> bytes:
    """Return the response of a receiver that rejected some items of a push."""
    if signal == "traces":
        trace = ExportTraceServiceResponse()
        trace.partial_success.rejected_spans, trace.partial_success.error_message = rejected, message
        return trace.SerializeToString()
    if signal == "metrics":
        metric = ExportMetricsServiceResponse()
        metric.partial_success.rejected_data_points, metric.partial_success.error_message = rejected, message
        return metric.SerializeToString()
    log = ExportLogsServiceResponse()
    log.partial_success.rejected_log_records, log.partial_success.error_message = rejected, message
    return log.SerializeToString()


def counts(data: MetricsData | None, name: str) -> dict[str, int]:
    """Return the values of a counter by its `error.type`, which is empty for delivered items."""
    found: dict[str, int] = {}
    for each in data.resource_metrics if data else ():
        for metric in (metric for scope in each.scope_metrics for metric in scope.metrics if metric.name == name):
            for point in metric.data.data_points:
                assert isinstance(point, NumberDataPoint)
                found[str((point.attributes or {}).get("error.type", ""))] = int(point.value)
    return found


def push_spans(collector: Collector, times: int = 1) -> dict[str, int]:
    """Push spans and return their counts."""
    reader = InMemoryMetricReader()
    provider = TracerProvider(shutdown_on_exit=False)
    processor = batch_processor(collector.exporter("traces"), MeterProvider([reader]))
    provider.add_span_processor(processor)
    for _ in range(times):
        for _ in range(SPANS):
            provider.get_tracer("test").start_span("x").end()
        processor.force_flush()
    provider.shutdown()
    return counts(reader.get_metrics_data(), "otel.sdk.exporter.span.exported")


def push_metrics(collector: Collector, times: int = 1) -> dict[str, int]:
    """Push a gauge and the SDK's own metrics, and return the counts of their points."""
    provider, latest = meter_provider(
        Resource({}), collector.exporter("metrics"), interval_ms=3_600_000, temporality="cumulative"
    )
    provider.get_meter("test").create_gauge("x").set(1)
    for _ in range(times):
        provider.force_flush()
    provider.shutdown()  # pushes once more, with the counts of the pushes before
    return counts(latest(), "otel.sdk.exporter.metric_data_point.exported")


def push_lines(collector: Collector, times: int = 1) -> dict[str, int]:
    """Push log records and return the counts of dropped ones."""
    dropped: dict[str, int] = {}
    handler = OtlpHandler(
        Resource({}), collector, lambda lines, why: dropped.update({why: dropped.get(why, 0) + lines}), 600
    )
    for _ in range(LINES * times):
        handler.handle(logging.LogRecord("x", logging.INFO, "", 0, "x", (), None))
    handler.close(10)
    return dropped


PUSHES: dict[Signal, Callable[..., dict[str, int]]] = {
    "traces": push_spans,
    "metrics": push_metrics,
    "logs": push_lines,
}
LAYERS = {"fast": FastCollector, "stock": Collector}


@contextmanager
def sink(*replies: int | Reply | None) -> Iterator[Sink]:
    """Start a receiver over HTTP with these responses."""
    made = Sink(*replies)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def grpc_receiver(respond: Callable[[], bytes]) -> Iterator[int]:
    """Start a receiver over gRPC with this response, and yield its port."""

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, _: object) -> object:
            return grpc.unary_unary_rpc_method_handler(lambda *_: respond())

    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Handler()])
    port = server.add_insecure_port(f"{LOOPBACK}:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


def reported(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the log lines of the module, and the output of the log handlers."""
    own = [record for record in caplog.records if record.name == delivery.__name__]
    return "\n".join([*(f"{each.getMessage()} {vars(each)['fields']}" for each in own), capsys.readouterr().err])


WRONG = {
    "a login page": (LOGIN_PAGE, "status 200 with an HTML page"),
    "an empty page": (Reply(200, headers=(("Content-Type", "text/html"),)), "status 200 with an HTML page"),
    "a redirect": (REDIRECT, "status 302, a redirect to login.example:8443"),
    "another redirect": (
        Reply(308, headers=(("Location", "https://other.example/v1"),)),
        "a redirect to other.example",
    ),
    "JSON": (Reply(200, b"{}", (("Content-Type", "application/json"),)), "status 200 with application/json"),
    "a text": (Reply(200, b"ok"), "status 200 with no content type"),
    "another message": (Reply(200, b"\xff\xff", PROTOBUF), "an answer that cannot be read"),
    "a rejection": (Reply(401, b"who are you?", (("Content-Type", "text/plain"),)), "status 401: who are you?"),
}


@pytest.mark.parametrize("reply_name", WRONG)
@pytest.mark.parametrize("signal", PUSHES)
@pytest.mark.parametrize("layer", LAYERS)
def test_over_http_a_response_without_an_otlp_message_is_a_loss(
    layer: str, signal: Signal, reply_name: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """This holds for any status. Redirects are not followed; the line describes the response without credentials."""
    reply, message = WRONG[reply_name]
    with sink(reply) as receiver:
        counted = PUSHES[signal](LAYERS[layer](LOOPBACK, receiver.port, HTTP))
        assert len(receiver.pushes) <= 2
    assert "" not in counted
    assert counted["export_failed"]
    text = reported(caplog, capsys)
    assert message in text
    assert "s3cret" not in text


@pytest.mark.parametrize(
    "reply",
    [Reply(200), Reply(200, headers=PROTOBUF), Reply(204), Reply(202, b"", PROTOBUF)],
    ids=["no type", "empty message", "no content", "202"],
)
@pytest.mark.parametrize("signal", PUSHES)
def test_an_empty_response_of_a_receiver_is_a_delivery(
    signal: Signal, reply: Reply, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """It encodes full success; some receivers omit the content type."""
    with sink(reply) as receiver:
        counted = PUSHES[signal](Collector(LOOPBACK, receiver.port, HTTP))
    assert set(counted) <= {""}
    assert reported(caplog, capsys).strip() == ""


@pytest.mark.parametrize("signal", PUSHES)
@pytest.mark.parametrize("protocol", ["http", "fast grpc"])
def test_items_that_a_receiver_rejects_in_an_accepted_push_are_counted(
    protocol: str, signal: Signal, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """With partial_success, only the rejected items are lost, and the log line has the receiver's reason."""
    body = partial(signal, 1)
    if protocol == "http":
        with sink(Reply(200, body, PROTOBUF)) as receiver:
            counted = PUSHES[signal](Collector(LOOPBACK, receiver.port, HTTP))
    else:
        with grpc_receiver(lambda: body) as port:
            counted = PUSHES[signal](FastCollector(LOOPBACK, port, "grpc"))
    assert counted["rejected"] == 1
    assert "export_failed" not in counted
    if signal == "traces":
        assert counted[""] == SPANS - 1
    assert "the collector rejected a part: too many" in reported(caplog, capsys)


@pytest.mark.parametrize("rejected", [0, -3])
@pytest.mark.parametrize("signal", PUSHES)
def test_a_warning_of_a_receiver_that_rejects_nothing_is_one_line(
    signal: Signal, rejected: int, caplog: pytest.LogCaptureFixture
) -> None:
    """All items count as delivered, also where the number makes no sense."""
    text = f"{signal}{rejected}: use another endpoint"
    with sink(Reply(200, partial(signal, rejected, text), PROTOBUF)) as receiver:
        counted = PUSHES[signal](Collector(LOOPBACK, receiver.port, HTTP), 2)
    assert set(counted) <= {""}
    own = [vars(record)["fields"] for record in caplog.records if record.name == delivery.__name__]
    assert own == [{"reason": text}]


@pytest.mark.parametrize("signal", PUSHES)
@pytest.mark.parametrize("layer", LAYERS)
def test_over_grpc_a_response_without_a_grpc_message_is_a_loss(
    layer: str, signal: Signal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server for HTTP/1.1 listens on the port, such as a login page."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.5")
    with sink(LOGIN_PAGE) as receiver:
        counted = PUSHES[signal](LAYERS[layer](LOOPBACK, receiver.port, "grpc"))
    assert "" not in counted
    assert counted["export_failed"]
    assert not [record for record in caplog.records if record.name == "opentelemetry" and signal == "logs"]


@pytest.mark.parametrize("signal", ["traces", "metrics"])
def test_an_outage_is_two_lines(signal: Signal, caplog: pytest.LogCaptureFixture) -> None:
    """One is logged at the start, and one at the end with the number of lost items, however many pushes failed."""
    caplog.set_level(logging.INFO, delivery.__name__)
    with sink(*[LOGIN_PAGE] * 4, 200) as receiver:
        counted = PUSHES[signal](Collector(LOOPBACK, receiver.port, HTTP), 6)
    own = [record for record in caplog.records if record.name == delivery.__name__]
    assert [each.getMessage() for each in own] == ["telemetry export failed", "telemetry export recovered"]
    first, last = (vars(each)["fields"] for each in own)
    assert first["signal"] == last["signal"] == signal
    assert first["count"] + last["count"] == counted["export_failed"]
