"""Where OTLP goes and how: the collector's address, the protocol, and the exporter for each signal."""

import os
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from common.core.env import Env

if TYPE_CHECKING:
    from opentelemetry.sdk._logs.export import LogRecordExporter
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.trace.export import SpanExporter

Signal = Literal["traces", "metrics", "logs"]

SIGNALS = ("TRACES", "METRICS", "LOGS")
STANDARD_PORTS = {"grpc": 4317, "http/protobuf": 4318}
PROTOCOLS = {"grpc": "grpc", "http/protobuf": "http"}


@dataclass(frozen=True)
class Collector:
    """The OTLP collector, for all signals; the standard OTEL_EXPORTER_OTLP_* variables take precedence."""

    host: str
    port: int
    protocol: str

    def endpoint(self, signal: Signal) -> str | None:
        """Return the endpoint for a signal; None where a standard variable names it: the exporter reads that."""
        for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"):
            if os.environ.get(name):
                return None
        protocol = self.protocol_of(signal)
        # The standard port of another protocol accepts nothing of this one.
        port = STANDARD_PORTS[protocol] if self.port == STANDARD_PORTS[self.protocol] else self.port
        return f"http://{self.host}:{port}{f'/v1/{signal}' if protocol == 'http/protobuf' else ''}"

    def addresses(self) -> list[str]:
        """Return each address that a signal may go to, for the proxies to bypass where it is local."""
        names = ["OTEL_EXPORTER_OTLP_ENDPOINT", *(f"OTEL_EXPORTER_OTLP_{each}_ENDPOINT" for each in SIGNALS)]
        return [f"http://{self.host}:{self.port}", *(os.environ.get(name, "") for name in names)]

    def protocol_of(self, signal: Signal) -> str:
        """Return the signal's own protocol, read as leniently as collector() checked it, or that of all signals."""
        return os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", "").strip().lower() or self.protocol

    def span_exporter(self) -> "SpanExporter":
        """Return an exporter of spans."""
        exporter: SpanExporter = self._exporter("traces", "trace_exporter", "OTLPSpanExporter")
        return exporter

    def metric_exporter(self) -> "MetricExporter":
        """Return an exporter of metrics."""
        exporter: MetricExporter = self._exporter("metrics", "metric_exporter", "OTLPMetricExporter")
        return exporter

    def log_exporter(self) -> "LogRecordExporter":
        """Return an exporter of log records."""
        exporter: LogRecordExporter = self._exporter("logs", "_log_exporter", "OTLPLogExporter")
        return exporter

    def _exporter(self, signal: Signal, module: str, name: str) -> Any:
        # Imported when wanted: the gRPC exporter alone costs 38 MB, the HTTP one 24 MB.
        protocol = PROTOCOLS[self.protocol_of(signal)]
        exporters = import_module(f"opentelemetry.exporter.otlp.proto.{protocol}.{module}")
        return getattr(exporters, name)(endpoint=self.endpoint(signal))


def collector(env: Env) -> Collector:
    """Read the collector's settings; raises SettingsError for a protocol that the SDK for Python lacks."""
    protocol = env.choice("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", tuple(PROTOCOLS))
    for signal in SIGNALS:
        env.choice(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", protocol, tuple(PROTOCOLS))
    return Collector(
        host=env.text("TRACING_COLLECTOR_HOST", "localhost"),
        port=env.port("TRACING_COLLECTOR_PORT", STANDARD_PORTS[protocol]),
        protocol=protocol,
    )
