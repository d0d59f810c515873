"""Pushes of traces, metrics and logs count as delivered only if an OTLP receiver said so, by each protocol."""

import logging
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager

import grpc  # type: ignore[import-untyped]  # its stubs are a package of their own
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
    """Lines about one signal are at least half a minute apart; each test is the first."""
    monkeypatch.setattr(delivery, "LOG_INTERVAL_S", 0.0)


def partial(signal: Signal, rejected: int, message: str = "too many") -> bytes:
    """The answer of a receiver that rejected some items of a push."""
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
    """The values of a counter by its `error.type`, empty for what was delivered."""
    found: dict[str, int] = {}
    for each in data.resource_metrics if data else ():
        for metric in (metric for scope in each.scope_metrics for metric in scope.metrics if metric.name == name):
            for point in metric.data.data_points:
                assert isinstance(point, NumberDataPoint)
                found[str((point.attributes or {}).get("error.type", ""))] = int(point.value)
    return found


def push_spans(collector: Collector, times: int = 1) -> dict[str, int]:
    """Push spans; return how they are counted."""
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
    """Push a gauge, and what else is measured by then; return how the points of these pushes are counted."""
    provider, latest = meter_provider(
        Resource({}), collector.exporter("metrics"), interval_ms=3_600_000, temporality="cumulative"
    )
    provider.get_meter("test").create_gauge("x").set(1)
    for _ in range(times):
        provider.force_flush()
    provider.shutdown()  # pushes once more, with the counts of the pushes before
    return counts(latest(), "otel.sdk.exporter.metric_data_point.exported")


def push_lines(collector: Collector, times: int = 1) -> dict[str, int]:
    """Push log records; return how they are counted as dropped."""
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
def sink(*answers: int | Reply | None) -> Iterator[Sink]:
    """Give a receiver over HTTP that answers so."""
    made = Sink(*answers)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def grpc_receiver(answer: Callable[[], bytes]) -> Iterator[int]:
    """Give the port of a receiver over gRPC that answers each call so."""

    class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, _: object) -> object:
            return grpc.unary_unary_rpc_method_handler(lambda *_: answer())

    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Handler()])
    port = server.add_insecure_port(f"{LOOPBACK}:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


def reported(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> str:
    """What was logged by the suite's own code, and what the logs themselves wrote."""
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
    "a refusal": (Reply(401, b"who are you?", (("Content-Type", "text/plain"),)), "status 401: who are you?"),
}


@pytest.mark.parametrize("answer", WRONG)
@pytest.mark.parametrize("signal", PUSHES)
@pytest.mark.parametrize("layer", LAYERS)
def test_over_http_what_is_not_an_otlp_answer_is_a_loss(
    layer: str, signal: Signal, answer: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever its status says; a redirect is not followed, and the line says what came, without credentials."""
    reply, said = WRONG[answer]
    with sink(reply) as receiver:
        counted = PUSHES[signal](LAYERS[layer](LOOPBACK, receiver.port, HTTP))
        assert len(receiver.pushes) <= 2
    assert "" not in counted
    assert counted["export_failed"]
    text = reported(caplog, capsys)
    assert said in text
    assert "s3cret" not in text


@pytest.mark.parametrize(
    "answer",
    [Reply(200), Reply(200, headers=PROTOBUF), Reply(204), Reply(202, b"", PROTOBUF)],
    ids=["no type", "empty message", "no content", "202"],
)
@pytest.mark.parametrize("signal", PUSHES)
def test_an_empty_answer_of_a_receiver_is_a_delivery(
    signal: Signal, answer: Reply, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """It encodes full success; some receivers leave out the type."""
    with sink(answer) as receiver:
        counted = PUSHES[signal](Collector(LOOPBACK, receiver.port, HTTP))
    assert set(counted) <= {""}
    assert reported(caplog, capsys).strip() == ""


@pytest.mark.parametrize("signal", PUSHES)
@pytest.mark.parametrize("way", ["http", "fast grpc"])
def test_what_a_receiver_rejects_of_a_push_that_it_accepts_is_counted_and_reported(
    way: str, signal: Signal, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """partial_success: that many items are lost, the others are not; the line has the receiver's reason."""
    body = partial(signal, 1)
    if way == "http":
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
def test_over_grpc_what_is_not_a_grpc_answer_is_a_loss(
    layer: str, signal: Signal, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server of HTTP/1.1 behind the port, such as a login page."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.5")
    with sink(LOGIN_PAGE) as receiver:
        counted = PUSHES[signal](LAYERS[layer](LOOPBACK, receiver.port, "grpc"))
    assert "" not in counted
    assert counted["export_failed"]
    assert not [record for record in caplog.records if record.name == "opentelemetry" and signal == "logs"]


@pytest.mark.parametrize("signal", ["traces", "metrics"])
def test_an_outage_is_two_lines(signal: Signal, caplog: pytest.LogCaptureFixture) -> None:
    """One when it begins, one when it is over with what was lost, however many pushes failed."""
    caplog.set_level(logging.INFO, delivery.__name__)
    with sink(*[LOGIN_PAGE] * 4, 200) as receiver:
        counted = PUSHES[signal](Collector(LOOPBACK, receiver.port, HTTP), 6)
    own = [record for record in caplog.records if record.name == delivery.__name__]
    assert [each.getMessage() for each in own] == ["telemetry export failed", "telemetry export recovered"]
    first, last = (vars(each)["fields"] for each in own)
    assert first["signal"] == last["signal"] == signal
    assert first["count"] + last["count"] == counted["export_failed"]
