"""The way of each signal with Docker: the part of Alloy that takes it, the one that hands it on, and who keeps it."""

from dataclasses import dataclass

SERVICES = ("mythical-requester", "mythical-server", "mythical-recorder")
# The variable of the port at which each service can be asked, with Docker.
PORTS = dict(zip(SERVICES, ("REQUESTER_PORT", "SERVER_PORT", "RECORDER_PORT"), strict=True))
# Who has nothing to tell of requests and messages while the requester makes none.
FED = {"mythical-server": "HTTP requests", "mythical-recorder": "messages"}


@dataclass(frozen=True)
class Way:
    """The hops behind the service, with the counters of Alloy that grow when one of them fails."""

    receiver: str
    exporter: str
    lost: tuple[str, ...]
    backend: str
    port: str  # of the back end, a variable of .env
    told_by: str  # the setting of the service that says where to
    refused: str = ""


OTLP = "otelcol.receiver.otlp.applications"
WAYS = {
    "traces": Way(
        receiver=OTLP,
        refused="otelcol_receiver_refused_spans_total",
        exporter="otelcol.exporter.otlp.tempo",
        lost=("otelcol_exporter_send_failed_spans_total", "otelcol_exporter_enqueue_failed_spans_total"),
        backend="tempo",
        port="TEMPO_PORT",
        told_by="TRACING_COLLECTOR_HOST",
    ),
    "metrics": Way(
        receiver=OTLP,
        refused="otelcol_receiver_refused_metric_points_total",
        exporter="prometheus.remote_write.mimir",
        lost=("prometheus_remote_storage_samples_failed_total",),
        backend="mimir",
        port="MIMIR_PORT",
        told_by="TRACING_COLLECTOR_HOST",
    ),
    "logs": Way(
        receiver="loki.source.api.mythical",
        exporter="loki.write.loki",
        lost=("loki_write_dropped_entries_total",),
        backend="loki",
        port="LOKI_PORT",
        told_by="LOGS_TARGET",
    ),
    "profiles": Way(
        receiver="pyroscope.receive_http.mythical",
        exporter="pyroscope.write.pyroscope",
        lost=("pyroscope_write_dropped_profiles_total",),
        backend="pyroscope",
        port="PYROSCOPE_PORT",
        told_by="PROFILE_COLLECTOR_HOST",
    ),
}
