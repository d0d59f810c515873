"""What a process is called in telemetry and where each signal goes, as settings.

Apart from the telemetry itself, so that the supervising process of a service can read its settings without loading
the SDK: that would cost it 40 MB.
"""

from dataclasses import dataclass

from common.core.env import Env
from common.telemetry.logs.setup import LogSettings, log_settings
from common.telemetry.otlp import Collector, collector
from common.telemetry.semconv import Conventions, conventions
from common.telemetry.standard_variables import check_standard_variables


@dataclass(frozen=True)
class TelemetrySettings:
    """What a process is called in telemetry, and where each signal goes."""

    service: str
    namespace: str
    enabled: bool
    layer: str
    traces: bool
    metrics: bool
    metric_interval_ms: float
    metric_temporality: str
    collector: Collector
    logs: LogSettings
    profiles_address: str
    profiles_memory: bool
    conventions: Conventions


def telemetry_settings(env: Env, service: str) -> TelemetrySettings:
    """Read them; raises SettingsError."""
    check_standard_variables(env.values)
    preference = env.choice(
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "cumulative", ("cumulative", "delta", "lowmemory")
    )
    profiles_host = env.text("PROFILE_COLLECTOR_HOST", "")
    profiles_port = env.port("PROFILE_COLLECTOR_PORT", 4040)
    return TelemetrySettings(
        service=service,
        namespace=env.text("NAMESPACE", "production"),
        layer=env.choice("TELEMETRY_LAYER", "fast", ("fast", "stock")),
        enabled=not env.flag("OTEL_SDK_DISABLED", default=False),
        traces=env.choice("OTEL_TRACES_EXPORTER", "otlp", ("otlp", "none")) == "otlp",
        metrics=env.choice("OTEL_METRICS_EXPORTER", "otlp", ("otlp", "none")) == "otlp",
        metric_interval_ms=env.number("OTEL_METRIC_EXPORT_INTERVAL", 5000, 100, 3_600_000),
        metric_temporality=preference,
        collector=collector(env),
        logs=log_settings(env),
        profiles_address=f"http://{profiles_host}:{profiles_port}" if profiles_host else "",
        profiles_memory=env.flag("PROFILE_MEMORY", default=False),
        conventions=conventions(env),
    )
