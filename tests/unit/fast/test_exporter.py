"""The fast exporter delivers the same over gRPC as the SDK's exporter, and handles failures in the same way."""

from collections.abc import Iterator
from concurrent import futures

import grpc  # type: ignore[import-untyped]  # its stubs are a separate package
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

from common.fast import exporter
from common.fast.exporter import PlaintextGrpcExporter, plaintext_grpc_exporter


class Collector(TraceServiceServicer):
    """Stores requests and their metadata; first responds with the status codes in `failures`."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.metadata: dict[str, str] = {}
        self.failures: list[grpc.StatusCode] = []

    def Export(  # noqa: N802 - the name in the protocol
        self, request: ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> ExportTraceServiceResponse:
        """Store one request or abort it."""
        if self.failures:
            context.abort(self.failures.pop(0), "not now")
        self.metadata = dict(context.invocation_metadata())
        self.requests.append(request)
        return ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[Collector, str]]:
    """Start a collector and yield it with its endpoint."""
    server, servicer = grpc.server(futures.ThreadPoolExecutor(2)), Collector()
    add_TraceServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"http://127.0.0.1:{port}"
    server.stop(None).wait()


def spans() -> list[ReadableSpan]:
    """Return one ended span."""
    span = TracerProvider(shutdown_on_exit=False).get_tracer("test").start_span("s")
    span.end()
    assert isinstance(span, ReadableSpan)
    return [span]


def test_spans_arrive_with_the_headers_of_the_standard_variables(
    collector: tuple[Collector, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Headers for traces take precedence; values are URL-encoded."""
    servicer, endpoint = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "Authorization=Bearer%20t, tenant=a")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    made = plaintext_grpc_exporter(endpoint)
    assert made
    assert made.export(spans()) is SpanExportResult.SUCCESS
    made.shutdown()
    (request,) = servicer.requests
    assert request.resource_spans[0].scope_spans[0].spans[0].name == "s"
    assert (servicer.metadata["authorization"], servicer.metadata["tenant"]) == ("Bearer t", "a")


def test_a_temporary_failure_is_retried(collector: tuple[Collector, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A restarting collector responds with UNAVAILABLE."""
    monkeypatch.setattr(exporter, "FIRST_RETRY_S", 0.01)
    servicer, endpoint = collector
    servicer.failures = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED]
    made = plaintext_grpc_exporter(endpoint)
    assert made
    assert made.export(spans()) is SpanExportResult.SUCCESS
    made.shutdown()


def test_a_permanent_failure_is_not_retried(collector: tuple[Collector, str]) -> None:
    """A collector that cannot decode a batch cannot decode it at the second attempt either."""
    servicer, endpoint = collector
    servicer.failures = [grpc.StatusCode.INVALID_ARGUMENT]
    made = plaintext_grpc_exporter(endpoint)
    assert made
    assert made.export(spans()) is SpanExportResult.FAILURE
    assert servicer.failures == servicer.requests == []
    made.shutdown()


def test_a_shutdown_ends_the_retries() -> None:
    """Nothing listens on that port; otherwise the export would retry for ten seconds."""
    made = PlaintextGrpcExporter("127.0.0.1:1", metadata=[], timeout_s=60, gzip=False)
    with futures.ThreadPoolExecutor(1) as pool:
        result = pool.submit(made.export, spans())
        made.shutdown()
        assert result.result(60) is SpanExportResult.FAILURE


@pytest.mark.parametrize(
    ("endpoint", "variable", "value"),
    [
        ("https://collector:4317", "OTEL_SERVICE_NAME", "x"),
        (None, "OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4317"),
        ("http://collector:4317", "OTEL_EXPORTER_OTLP_INSECURE", "false"),
        ("http://collector:4317", "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", __file__),
        ("collector:4317", "OTEL_SERVICE_NAME", "x"),
    ],
)
def test_with_tls_the_exporter_of_the_sdk_is_used(
    endpoint: str | None, variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fast exporter does not support certificates."""
    monkeypatch.setenv(variable, value)
    assert plaintext_grpc_exporter(endpoint) is None
