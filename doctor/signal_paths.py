"""The path of each signal with Docker: Alloy's receiver, Alloy's exporter, and the backend that stores it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SignalPath:
    """The stages after the service, with the counters of Alloy that increase when one of them fails."""

    receiver: str
    exporter: str
    lost: tuple[str, ...]
    backend: str
    port_variable: str  # in .env, the port of the backend
    target_variable: str  # the setting of the service with the address to send to
    refused: str = ""


OTLP = "otelcol.receiver.otlp.applications"
PATHS = {
    "traces": SignalPath(
        receiver=OTLP,
        refused="otelcol_receiver_refused_spans_total",
        exporter="otelcol.exporter.otlp.tempo",
        lost=("otelcol_exporter_send_failed_spans_total", "otelcol_exporter_enqueue_failed_spans_total"),
        backend="tempo",
        port_variable="TEMPO_PORT",
        target_variable="TRACING_COLLECTOR_HOST",
    ),
    "metrics": SignalPath(
        receiver=OTLP,
        refused="otelcol_receiver_refused_metric_points_total",
        exporter="prometheus.remote_write.mimir",
        lost=("prometheus_remote_storage_samples_failed_total",),
        backend="mimir",
        port_variable="MIMIR_PORT",
        target_variable="TRACING_COLLECTOR_HOST",
    ),
    "logs": SignalPath(
        receiver="loki.source.api.mythical",
        exporter="loki.write.loki",
        lost=("loki_write_dropped_entries_total",),
        backend="loki",
        port_variable="LOKI_PORT",
        target_variable="LOGS_TARGET",
    ),
    "profiles": SignalPath(
        receiver="pyroscope.receive_http.mythical",
        exporter="pyroscope.write.pyroscope",
        lost=("pyroscope_write_dropped_profiles_total",),
        backend="pyroscope",
        port_variable="PYROSCOPE_PORT",
        target_variable="PROFILE_COLLECTOR_HOST",
    ),
}
