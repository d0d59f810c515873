"""The endpoint and the protocol of OTLP depend on the settings of the suite and on the standard variables."""

import os
from collections.abc import Iterator

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from common.core.env import Env, SettingsError
from common.telemetry.settings import PROTOCOLS, Collector, Signal, collector, telemetry_settings
from tests.unit.telemetry.push_sink import LOOPBACK, Sink
from tools.probe import target

SIGNALS: tuple[Signal, ...] = ("traces", "metrics", "logs")
HTTP = "http/protobuf"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the variables of the machine."""
    for signal in ("", "TRACES_", "METRICS_", "LOGS_"):
        for what in ("ENDPOINT", "PROTOCOL"):
            monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{signal}{what}", raising=False)


@pytest.fixture
def sink() -> Iterator[Sink]:
    """Start a collector that accepts everything."""
    made = Sink(200)
    yield made
    made.close()


def export_a_span(target: Collector) -> None:
    """Send one span to a collector."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(target.exporter("traces")))
    provider.get_tracer("test").start_span("x").end()
    provider.shutdown()


def test_the_default_collector_is_grpc_on_4317() -> None:
    """Every collector has this port open."""
    assert collector(Env({})) == Collector("localhost", 4317, "grpc")


def test_over_http_the_port_is_4318() -> None:
    """Changing the protocol needs only one variable."""
    assert collector(Env({"OTEL_EXPORTER_OTLP_PROTOCOL": HTTP})) == Collector("localhost", 4318, HTTP)


@pytest.mark.parametrize("name", ["PROTOCOL", "TRACES_PROTOCOL", "METRICS_PROTOCOL", "LOGS_PROTOCOL"])
def test_a_protocol_that_python_does_not_support_is_rejected_at_the_start(name: str) -> None:
    """http/json exists only in other languages."""
    with pytest.raises(SettingsError, match="grpc, http/protobuf"):
        collector(Env({f"OTEL_EXPORTER_OTLP_{name}": "http/json"}))


@pytest.mark.parametrize("signal", SIGNALS)
def test_each_signal_has_its_endpoint(signal: Signal) -> None:
    """gRPC needs no path, and HTTP has one for each signal (OTLP specification)."""
    assert Collector("alloy", 4317, "grpc").endpoint(signal) == "http://alloy:4317"
    assert Collector("alloy", 4318, HTTP).endpoint(signal) == f"http://alloy:4318/v1/{signal}"
    assert Collector("::1", 4317, "grpc").endpoint(signal) == "http://[::1]:4317"
    assert Collector("::1", 4318, HTTP).endpoint(signal) == f"http://[::1]:4318/v1/{signal}"


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_profiles_can_be_sent_to_an_ipv6_address(host: str) -> None:
    """The setting may have brackets or not."""
    settings = telemetry_settings(Env({"PROFILE_COLLECTOR_HOST": host}), "mythical-test")
    assert settings.profiles_address == "http://[::1]:4040"


@pytest.mark.parametrize("signal", SIGNALS)
def test_the_standard_variables_take_precedence(signal: Signal, monkeypatch: pytest.MonkeyPatch) -> None:
    """If one contains an address, the exporter reads it by the rules of the specification."""
    monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "http://elsewhere:1")
    assert Collector("alloy", 4317, "grpc").endpoint(signal) is None
    monkeypatch.delenv(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://elsewhere:1")
    assert Collector("alloy", 4317, "grpc").endpoint(signal) is None


def test_spans_arrive_over_http(sink: Sink) -> None:
    """The two TRACING_COLLECTOR variables set the endpoint."""
    export_a_span(Collector(LOOPBACK, sink.port, HTTP))
    assert [push.path for push in sink.pushes] == ["/v1/traces"]


def test_spans_arrive_at_the_endpoint_of_the_standard_variable(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its path is kept, and the path of the signal is appended (OTLP specification)."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{LOOPBACK}:{sink.port}/tenant")
    export_a_span(Collector("alloy", 4318, HTTP))
    assert [push.path for push in sink.pushes] == ["/tenant/v1/traces"]


@pytest.mark.parametrize("written", [HTTP, "HTTP/Protobuf", f" {HTTP} "])
def test_one_signal_may_use_another_protocol(sink: Sink, monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    """It is sent to the path of that protocol, independent of case and white space in the variable."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", written)
    export_a_span(Collector(LOOPBACK, sink.port, "grpc"))
    assert [push.path for push in sink.pushes] == ["/v1/traces"]


def test_over_grpc_the_exporter_is_the_grpc_one() -> None:
    """Each protocol has a separate exporter, and only the selected one is loaded."""
    exporter = Collector("localhost", 4317, "grpc").exporter("traces")
    assert isinstance(exporter, GrpcSpanExporter)
    exporter.shutdown()


def test_there_are_exporters_for_metrics_and_logs_in_both_protocols() -> None:
    """All signals support both protocols."""
    for protocol, package in (("grpc", ".grpc."), (HTTP, ".http.")):
        target = Collector("localhost", 4317, protocol)
        for exporter in (target.exporter("metrics"), target.exporter("logs")):
            assert package in type(exporter).__module__
            exporter.shutdown()


def test_a_signal_with_another_protocol_has_its_standard_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port other than the standard one applies to all signals, as documented."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", HTTP)
    assert Collector("alloy", 4317, "grpc").endpoint("metrics") == "http://alloy:4318/v1/metrics"
    assert Collector("alloy", 4317, "grpc").endpoint("traces") == "http://alloy:4317"
    assert Collector("alloy", 5000, "grpc").endpoint("metrics") == "http://alloy:5000/v1/metrics"
    assert Collector("alloy", 4317, HTTP).endpoint("traces") == "http://alloy:4318/v1/traces"


@pytest.mark.parametrize(
    ("endpoint", "protocol"),
    [
        ("http://collector:4317", "grpc"),
        ("http://collector:4317/", "grpc"),
        ("collector:4317", "grpc"),
        ("https://collector.example", "grpc"),
        ("http://collector:4318", HTTP),
        ("https://collector.example/otlp", HTTP),
    ],
)
def test_an_endpoint_that_implies_http_needs_no_protocol(endpoint: str, protocol: str) -> None:
    """gRPC to the port of HTTP is the most common mistake; an explicit protocol takes precedence."""
    endpoint_set = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
    assert collector(Env(endpoint_set)).protocol == protocol
    assert collector(Env({**endpoint_set, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})).protocol == "grpc"


@pytest.mark.parametrize(
    ("environ", "protocol"),
    [
        ({"TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, HTTP),
        ({"TRACES_ENDPOINT": "https://collector.example/otlp/v1/traces"}, HTTP),
        ({"TRACES_ENDPOINT": "http://collector:4318", "ENDPOINT": "http://other:4317"}, HTTP),
        ({"TRACES_ENDPOINT": "http://collector:4317", "ENDPOINT": "http://other:4318"}, "grpc"),
        ({"TRACES_ENDPOINT": "http://collector:9999", "ENDPOINT": "http://other:4318"}, HTTP),
        ({"TRACES_ENDPOINT": "http://collector:4318", "PROTOCOL": "grpc"}, "grpc"),
        ({"TRACES_ENDPOINT": "http://collector:4318", "TRACES_PROTOCOL": "grpc"}, "grpc"),
    ],
)
def test_the_endpoint_of_a_signal_implies_its_protocol_alone(
    environ: dict[str, str], protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other signals keep theirs, and a protocol that is set takes precedence."""
    for name, value in environ.items():
        monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", value)
    found = collector(Env(os.environ))
    assert found.protocol_of("traces") == protocol
    assert found.protocol_of("metrics") == found.protocol
    assert target("traces", os.environ).protocol == PROTOCOLS[protocol]


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"])
def test_an_endpoint_for_http_without_a_scheme_is_rejected(name: str) -> None:
    """gRPC accepts host and port; the exporter over HTTP would lose everything."""
    with pytest.raises(SettingsError, match="set http://collector:4318 in OTEL_EXPORTER_OTLP_ENDPOINT"):
        collector(Env({name: "collector:4318"}))
    collector(Env({name: "collector:4317"}))
