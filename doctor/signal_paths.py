"""The path of each signal with Docker: Alloy's receiver, Alloy's exporter, and the backend that stores it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SignalPath:
    """The stages after the service, with Alloy's metrics of what fails, waits, and was delivered."""

    receiver: str
    exporter: str
    lost: tuple[str, ...]
    repeated: str  # pushes that failed and are repeated, or batches that wait for that
    delivered: str
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
        repeated="otelcol_exporter_queue_size",
        delivered="otelcol_exporter_sent_spans_total",
        backend="tempo",
        port_variable="TEMPO_PORT",
        target_variable="TRACING_COLLECTOR_HOST",
    ),
    "metrics": SignalPath(
        receiver=OTLP,
        refused="otelcol_receiver_refused_metric_points_total",
        exporter="prometheus.remote_write.mimir",
        lost=("prometheus_remote_storage_samples_failed_total",),
        repeated="prometheus_remote_storage_samples_retried_total",
        delivered="prometheus_remote_storage_bytes_total",
        backend="mimir",
        port_variable="MIMIR_PORT",
        target_variable="TRACING_COLLECTOR_HOST",
    ),
    "logs": SignalPath(
        receiver="loki.source.api.mythical",
        exporter="loki.write.loki",
        lost=("loki_write_dropped_entries_total",),
        repeated="loki_write_batch_retries_total",
        delivered="loki_write_sent_entries_total",
        backend="loki",
        port_variable="LOKI_PORT",
        target_variable="LOGS_TARGET",
    ),
    "profiles": SignalPath(
        receiver="pyroscope.receive_http.mythical",
        exporter="pyroscope.write.pyroscope",
        lost=("pyroscope_write_dropped_profiles_total",),
        repeated="pyroscope_write_retries_total",
        delivered="pyroscope_write_sent_profiles_total",
        backend="pyroscope",
        port_variable="PYROSCOPE_PORT",
        target_variable="PROFILE_COLLECTOR_HOST",
    ),
}
