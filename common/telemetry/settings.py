"""What a process is called in telemetry, where each signal goes and how, as settings.

Apart from the telemetry itself, so that the supervising process of a service can read its settings without loading
the SDK: that would cost it 40 MB.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Literal, TypedDict
from urllib.parse import urlsplit

from common.core.address import basic, join_host_port, shown, split_credentials
from common.core.env import Env, SettingsError
from common.telemetry.standard_variables import (
    BATCH_SIZE,
    QUEUE_SIZES,
    SIGNALS,
    check_standard_variables,
    otlp_variable,
)

Signal = Literal["traces", "metrics", "logs"]

PROTOCOLS = {"grpc": "grpc", "http/protobuf": "http"}
STANDARD_PORTS = {"grpc": 4317, "http/protobuf": 4318}
EXPORTERS = {
    "traces": ("trace_exporter", "OTLPSpanExporter"),
    "metrics": ("metric_exporter", "OTLPMetricExporter"),
    "logs": ("_log_exporter", "OTLPLogExporter"),
}

# Source: opentelemetry-proto, opentelemetry/proto/collector, the method of each service.
GRPC_METHODS = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}

# The SDK's own default, and the size of a batch, below which its queue must not be.
OTLP_QUEUE_LINES, OTLP_BATCH_LINES = QUEUE_SIZES["BLRP"], BATCH_SIZE

# From the lowest to the highest; docs/instrumentation-ladder.md compares them.
RUNGS = ("off", "ebpf", "zero-code", "stock", "fast")
# The rungs on which our own code makes the telemetry.
MANUAL = ("stock", "fast")

SEMCONV_VARIABLE = "OTEL_SEMCONV_STABILITY_OPT_IN"

# Existing dashboards query the old names; the new ones are stable.
BOTH_SEMCONVS = "http/dup,database/dup"


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
        port = port_for(protocol, self.port)
        return f"http://{join_host_port(self.host, port)}{f'/v1/{signal}' if protocol == 'http/protobuf' else ''}"

    def addresses(self) -> list[str]:
        """Return each address that a signal may go to, for the proxies to bypass where it is local."""
        names = ["OTEL_EXPORTER_OTLP_ENDPOINT", *(f"OTEL_EXPORTER_OTLP_{each}_ENDPOINT" for each in SIGNALS)]
        return [f"http://{join_host_port(self.host, self.port)}", *(os.environ.get(name, "") for name in names)]

    def protocol_of(self, signal: Signal) -> str:
        """Return the protocol of a signal."""
        return protocol_of(os.environ, signal, self.protocol)

    def exporter(self, signal: Signal) -> Any:
        """Return the SDK's exporter of a signal."""
        # Imported when wanted: the gRPC exporter alone costs 38 MB, the HTTP one 24 MB.
        module, name = EXPORTERS[signal]
        protocol = PROTOCOLS[self.protocol_of(signal)]
        exporters = import_module(f"opentelemetry.exporter.otlp.proto.{protocol}.{module}")
        # Over HTTP, the SDK takes any status below 400 for a delivery: redirects and login pages too.
        session = {"session": import_module("common.telemetry.delivery").otlp_session()} if protocol == "http" else {}
        return getattr(exporters, name)(endpoint=self.endpoint(signal), **session)


@dataclass(frozen=True)
class LogSettings:
    """Where lines go (`loki` needs the push address `target`), the lowest level, how many may wait for OTLP.

    `target` is without credentials; `headers` authenticate each push and name the tenant. `json` is the format on
    standard output; logfmt otherwise.
    """

    destination: Literal["loki", "console", "otlp"]
    target: str
    level: str
    queue_lines: int = OTLP_QUEUE_LINES
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    json: bool = False


class ExportSettings(TypedDict):
    """Whether spans and metrics are sent, how often metrics are, in ms, and which sums are differences."""

    traces: bool
    metrics: bool
    metric_interval_ms: float
    metric_temporality: str


@dataclass(frozen=True)
class Conventions:
    """The generations in force. Source: OpenTelemetry, "HTTP semantic convention stability migration"."""

    old_http: bool
    new_http: bool
    old_database: bool
    new_database: bool


@dataclass(frozen=True)
class TelemetrySettings:
    """What a process is called in telemetry, who instruments it, and where each signal goes.

    `enabled` means that our own code makes spans, metrics, and profiles.
    """

    service: str
    namespace: str
    enabled: bool
    instrumentation: str
    traces: bool
    metrics: bool
    metric_interval_ms: float
    metric_temporality: str
    collector: Collector
    logs: LogSettings
    profiles_address: str
    profiles_headers: Mapping[str, str] = field(repr=False)
    profiles_memory: bool
    conventions: Conventions


def telemetry_settings(env: Env, service: str) -> TelemetrySettings:
    """Read them; raises SettingsError."""
    exports = export_settings(env)
    rung = instrumentation(env, service)
    profiles_host = env.host("PROFILE_COLLECTOR_HOST", "")
    profiles_port = env.port("PROFILE_COLLECTOR_PORT", 4040)
    return TelemetrySettings(
        service=service,
        namespace=env.text("NAMESPACE", "production"),
        instrumentation=rung,
        enabled=not env.flag("OTEL_SDK_DISABLED", default=False) and rung in MANUAL,
        **exports,
        collector=collector(env),
        logs=log_settings(env),
        profiles_address=f"http://{join_host_port(profiles_host, profiles_port)}" if profiles_host else "",
        profiles_headers=push_headers(env, "PROFILE_COLLECTOR"),
        profiles_memory=env.flag("PROFILE_MEMORY", default=False),
        conventions=conventions(env),
    )


def export_settings(env: Env) -> ExportSettings:
    """Read them; raises SettingsError for any variable of the specification with a value that the SDK could not use."""
    check_standard_variables(env.values)
    return ExportSettings(
        traces=env.choice("OTEL_TRACES_EXPORTER", "otlp", ("otlp", "none")) == "otlp",
        metrics=env.choice("OTEL_METRICS_EXPORTER", "otlp", ("otlp", "none")) == "otlp",
        metric_interval_ms=env.number("OTEL_METRIC_EXPORT_INTERVAL", 5000, 100, 3_600_000),
        metric_temporality=env.choice(
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "cumulative", ("cumulative", "delta", "lowmemory")
        ),
    )


def instrumentation(env: Env, service: str) -> str:
    """Return the rung of a service: SERVER_INSTRUMENTATION, for example, else INSTRUMENTATION; raises SettingsError.

    TELEMETRY_LAYER is the former name of the latter.
    """
    former = env.choice("TELEMETRY_LAYER", "fast", MANUAL)
    common = env.choice("INSTRUMENTATION", former, RUNGS)
    return env.choice(f"{service.removeprefix('mythical-').upper()}_INSTRUMENTATION", common, RUNGS)


def collector(env: Env) -> Collector:
    """Read the collector's settings; raises SettingsError for a protocol that the SDK for Python lacks."""
    default = default_protocol(env.values.get("OTEL_EXPORTER_OTLP_ENDPOINT", "").strip())
    protocol = env.choice("OTEL_EXPORTER_OTLP_PROTOCOL", default, tuple(PROTOCOLS))
    for signal in SIGNALS:
        env.choice(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", protocol, tuple(PROTOCOLS))
        endpoint = otlp_variable(env.values, signal, "ENDPOINT")
        if endpoint and "://" not in endpoint and protocol_of(env.values, signal, protocol) == "http/protobuf":
            raise SettingsError(
                f"the endpoint {shown(endpoint)!r} of {signal.lower()} is not a URL, which OTLP over HTTP needs; "
                f"set http://{shown(endpoint)} in OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_{signal}_ENDPOINT"
            )
    return Collector(
        host=env.host("TRACING_COLLECTOR_HOST", "localhost"),
        port=env.port("TRACING_COLLECTOR_PORT", STANDARD_PORTS[protocol]),
        protocol=protocol,
    )


def protocol_of(environ: Mapping[str, str], signal: str, of_all: str) -> str:
    """Return the protocol of a signal: its own, or what its own endpoint implies, or `of_all`, that of all signals."""
    own = f"OTEL_EXPORTER_OTLP_{signal.upper()}"
    if protocol := environ.get(f"{own}_PROTOCOL", "").strip().lower():
        return protocol
    if environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "").strip():
        return of_all
    return default_protocol(environ.get(f"{own}_ENDPOINT", "").strip(), of_all)


def default_protocol(endpoint: str, otherwise: str = "grpc") -> str:
    """Return the protocol that an endpoint implies: only OTLP over HTTP has a path; each has its standard port."""
    url = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
    if url.path.strip("/"):
        return "http/protobuf"
    return next((name for name, port in STANDARD_PORTS.items() if url.netloc.endswith(f":{port}")), otherwise)


def port_for(protocol: str, port: int) -> int:
    """Return `port`, or the standard port of `protocol` if it is that of the other one, which would accept nothing."""
    return STANDARD_PORTS[protocol] if port in STANDARD_PORTS.values() else port


def log_settings(env: Env) -> LogSettings:
    """Read them: LOGS_TARGET means Loki, OTEL_LOGS_EXPORTER=otlp means OTLP and wins, nothing means standard output.

    With OTEL_SDK_DISABLED the SDK silently discards lines for OTLP: they go to standard output then.
    """
    target, authorization = split_credentials(env.url("LOGS_TARGET", ""))
    headers = ({"Authorization": authorization} if authorization else {}) | push_headers(env, "LOGS")
    exporter = env.choice("OTEL_LOGS_EXPORTER", "none", ("none", "console", "otlp"))
    level = env.choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"))
    queue = env.integer("OTEL_BLRP_MAX_QUEUE_SIZE", OTLP_QUEUE_LINES, OTLP_BATCH_LINES, 1_000_000)
    json = env.choice("LOGS_FORMAT", "logfmt", ("logfmt", "json")) == "json"
    if exporter == "otlp" and not env.flag("OTEL_SDK_DISABLED", default=False):
        return LogSettings("otlp", target, level, queue)
    destination: Literal["loki", "console"] = "loki" if target and exporter == "none" else "console"
    return LogSettings(destination, target, level, headers=headers, json=json)


def push_headers(env: Env, prefix: str) -> dict[str, str]:
    """Return the headers that authenticate a push and name its tenant, from `prefix`_TENANT, _USER and _TOKEN.

    A token without a user is a bearer token. Source: Grafana Loki, "Multi-tenancy"; RFC 6750, section 2.1.
    """
    tenant, user = env.text(f"{prefix}_TENANT", ""), env.text(f"{prefix}_USER", "")
    token = env.secret(f"{prefix}_TOKEN", "").strip()
    headers = {"X-Scope-OrgID": tenant} if tenant else {}
    if user or token:
        # The lines of a file that wraps the token are one token.
        headers["Authorization"] = basic(user, token) if user else f"Bearer {''.join(token.split())}"
    for name, value in zip(("TENANT", "TOKEN"), (tenant, headers.get("Authorization", "")), strict=True):
        if not (value.isascii() and value.isprintable()):
            raise SettingsError(f"{prefix}_{name} has a character that no HTTP header may have; use printable ASCII")
    return headers


def conventions(env: Env) -> Conventions:
    """Read OTEL_SEMCONV_STABILITY_OPT_IN: `http` is the new names alone, `http/dup` both, neither the old alone.

    Where both are written, `/dup` wins, as it does for the instrumentations.
    """
    wanted = {word.strip() for word in env.text(SEMCONV_VARIABLE, BOTH_SEMCONVS).split(",")}
    return Conventions(
        old_http="http" not in wanted or "http/dup" in wanted,
        new_http=bool({"http", "http/dup"} & wanted),
        old_database="database" not in wanted or "database/dup" in wanted,
        new_database=bool({"database", "database/dup"} & wanted),
    )


def set_default_conventions() -> None:
    """Make our default that of the instrumentation libraries as well.

    They read the variable once per process, when the first of them starts: call this before that.
    """
    os.environ[SEMCONV_VARIABLE] = os.environ.get(SEMCONV_VARIABLE) or BOTH_SEMCONVS
