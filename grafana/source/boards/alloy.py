"""Alloy: data received, sent, queued and dropped, by signal."""

from grafana.source.board import Board, Row
from grafana.source.panels import lines, logs, override, stat, table, thresholds
from grafana.source.queries import CORES, SCRAPED, Query, instant, log_lines, metric

ALLOY = 'service="alloy"'
UNHEALTHY = 'health_type!="healthy"'


def rate(name: str, legend: str) -> Query:
    """Return the rate of one of Alloy's counters."""
    return metric(f"sum(rate({name}{{{ALLOY}}}[$__rate_interval]))", legend, every=SCRAPED)


def loss(name: str, legend: str) -> Query:
    """Return the rate of a counter that does not exist before the first loss."""
    return metric(f"sum(rate({name}{{{ALLOY}}}[$__rate_interval])) or vector(0)", legend, every=SCRAPED)


def value(expression: str, legend: str) -> Query:
    """Return the current value of one of Alloy's metrics."""
    return metric(expression, legend, every=SCRAPED)


def now() -> Row:
    """Return the row with the state at a glance."""
    return Row(
        "Now",
        (
            stat(
                "Unhealthy components",
                "Components that are not healthy. Alloy's UI shows the reason.",
                "short",
                value(
                    f"sum(alloy_component_controller_running_components{{{ALLOY},{UNHEALTHY}}}) or vector(0)",
                    "unhealthy",
                ),
                thresholds=thresholds((None, "green"), (1, "red")),
            ),
            stat(
                "Targets down",
                "Scrape targets that do not answer.",
                "short",
                value("count(up == 0) or vector(0)", "down"),
                thresholds=thresholds((None, "green"), (1, "red")),
            ),
            stat("CPU", "CPU time in use.", CORES, rate("process_cpu_seconds_total", "cores")),
            stat(
                "Memory",
                "Physical memory in use.",
                "bytes",
                value(f"process_resident_memory_bytes{{{ALLOY}}}", "resident"),
            ),
        ),
    )


def signals() -> Row:
    """Return the row with throughput by signal."""
    return Row(
        "In and out",
        (
            lines(
                "Spans",
                "Spans per second: received over OTLP, sent to Tempo. With tail sampling, fewer are sent.",
                "cps",
                rate("otelcol_receiver_accepted_spans_total", "in"),
                rate("otelcol_exporter_sent_spans_total", "out"),
            ),
            lines(
                "Metrics",
                "Data points per second: received over OTLP, scraped from targets, sent to Mimir.",
                "cps",
                rate("otelcol_receiver_accepted_metric_points_total", "pushed"),
                rate("prometheus_remote_storage_samples_total", "out"),
            ),
            lines(
                "Log lines",
                "Log lines per second: received, and sent to Loki together with those of spans and Alloy's own.",
                "cps",
                rate("loki_source_api_entries_written", "in"),
                rate("loki_write_sent_entries_total", "out"),
            ),
            lines(
                "Profiles",
                "Profiles per second sent to Pyroscope.",
                "cps",
                rate("pyroscope_write_sent_profiles_total", "out"),
            ),
        ),
    )


def losses() -> Row:
    """Return the row with queued and dropped data."""
    return Row(
        "Queued and dropped",
        (
            lines(
                "Queue to Tempo",
                "Batches that wait for Tempo, and the capacity of the queue; above it, batches are dropped.",
                "short",
                value(f"max by (data_type) (otelcol_exporter_queue_size{{{ALLOY}}})", "{{data_type}}"),
                value(f"max(otelcol_exporter_queue_capacity{{{ALLOY}}})", "limit"),
                width=8,
                overrides=[override("limit", custom__lineStyle={"fill": "dash"}, custom__fillOpacity=0)],
            ),
            lines(
                "Waiting for Mimir",
                "Samples that wait to be sent.",
                "short",
                value(f"sum(prometheus_remote_storage_samples_pending{{{ALLOY}}})", "samples"),
                width=8,
            ),
            lines(
                "Refused and dropped",
                "Per second. Refused: the memory limit was reached and the sender retries. The others are lost.",
                "cps",
                loss("otelcol_receiver_refused_spans_total", "spans refused"),
                loss("otelcol_exporter_send_failed_spans_total", "spans lost"),
                loss("otelcol_exporter_enqueue_failed_spans_total", "spans lost, queue full"),
                loss("prometheus_remote_storage_samples_failed_total", "samples lost"),
                loss("loki_write_dropped_entries_total", "lines lost"),
                loss("pyroscope_write_dropped_profiles_total", "profiles lost"),
                width=8,
            ),
        ),
    )


def targets() -> Row:
    """Return the row with scrape targets."""
    labels = {"job": "Job", "service": "Service", "instance": "Instance"}
    return Row(
        "Targets",
        (
            table(
                "Targets",
                "Scrape targets, whether they answer, and the samples of each scrape.",
                "short",
                instant('up{group="infrastructure"}', "{{service}}", every=SCRAPED, table=True),
                columns=labels | {"Value": "Up"},
                width=12,
                height=10,
                overrides=[
                    override("Job", custom__width=130),
                    override("Service", custom__width=110),
                    override("Up", unit="bool_on_off", custom__width=70),
                ],
            ),
            lines(
                "Series in the write-ahead log",
                "Series that Alloy stores on disk until Mimir has received them.",
                "short",
                value(f"sum(prometheus_remote_write_wal_storage_active_series{{{ALLOY}}})", "series"),
                height=10,
            ),
            logs("Alloy's log", "Alloy's own log.", log_lines('{service="alloy"}')),
        ),
    )


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "alloy",
        "mythical-alloy",
        "Alloy",
        "Data received, sent, queued and dropped, by signal.",
        (now(), signals(), losses(), targets()),
    )
