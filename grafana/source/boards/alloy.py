"""Alloy: what comes in, what goes out, what waits and what is lost, signal by signal."""

from grafana.source.board import Board, Row
from grafana.source.panels import lines, logs, override, stat, table, thresholds
from grafana.source.queries import CORES, FETCHED, Query, figure, log_lines, metric

ALLOY = 'service="alloy"'
SICK = 'health_type!="healthy"'


def rate(name: str, legend: str) -> Query:
    """Return the rate of one of Alloy's counters."""
    return metric(f"sum(rate({name}{{{ALLOY}}}[$__rate_interval]))", legend, every=FETCHED)


def loss(name: str, legend: str) -> Query:
    """Return the rate of a counter that does not exist before the first loss."""
    return metric(f"sum(rate({name}{{{ALLOY}}}[$__rate_interval])) or vector(0)", legend, every=FETCHED)


def value(expression: str, legend: str) -> Query:
    """Return a figure of Alloy, as it is."""
    return metric(expression, legend, every=FETCHED)


def now() -> Row:
    """The state at a glance."""
    return Row(
        "Now",
        (
            stat(
                "Unhealthy components",
                "Parts of the configuration that do not work. Alloy's own page says why.",
                "short",
                value(
                    f"sum(alloy_component_controller_running_components{{{ALLOY},{SICK}}}) or vector(0)",
                    "unhealthy",
                ),
                thresholds=thresholds((None, "green"), (1, "red")),
            ),
            stat(
                "Targets down",
                "Addresses that Alloy scrapes and that do not answer.",
                "short",
                value("count(up == 0) or vector(0)", "down"),
                thresholds=thresholds((None, "green"), (1, "red")),
            ),
            stat("CPU", "Processor time in use.", CORES, rate("process_cpu_seconds_total", "cores")),
            stat(
                "Memory",
                "Physical memory in use.",
                "bytes",
                value(f"process_resident_memory_bytes{{{ALLOY}}}", "resident"),
            ),
        ),
    )


def signals() -> Row:
    """In and out, signal by signal."""
    return Row(
        "In and out",
        (
            lines(
                "Spans",
                "Spans per second: taken over OTLP, sent to Tempo. With tail sampling fewer go out than come in.",
                "cps",
                rate("otelcol_receiver_accepted_spans_total", "in"),
                rate("otelcol_exporter_sent_spans_total", "out"),
            ),
            lines(
                "Metrics",
                "Points per second: pushed over OTLP, fetched from targets, sent to Mimir.",
                "cps",
                rate("otelcol_receiver_accepted_metric_points_total", "pushed"),
                rate("prometheus_remote_storage_samples_total", "out"),
            ),
            lines(
                "Log lines",
                "Lines per second: pushed to Alloy, and sent to Loki with those that Alloy makes of spans and its own.",
                "cps",
                rate("loki_source_api_entries_written", "in"),
                rate("loki_write_sent_entries_total", "out"),
            ),
            lines(
                "Profiles",
                "Profiles per second that were sent to Pyroscope.",
                "cps",
                rate("pyroscope_write_sent_profiles_total", "out"),
            ),
        ),
    )


def losses() -> Row:
    """What waits and what is lost."""
    return Row(
        "Waiting and lost",
        (
            lines(
                "Queue to Tempo",
                "Batches that wait for Tempo, and how many may: above it they are dropped.",
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
                "Refused and lost",
                "Per second. Refused: the memory limit was reached, the sender tries again. The others are gone.",
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
    """What is scraped."""
    labels = {"job": "Job", "service": "Service", "instance": "Instance"}
    return Row(
        "Targets",
        (
            table(
                "Targets",
                "What Alloy scrapes, whether it answers, and how many samples each scrape keeps.",
                "short",
                figure('up{group="infrastructure"}', "{{service}}", every=FETCHED, table=True),
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
                "Series in the log ahead of Mimir",
                "Series that Alloy keeps on disk until Mimir has them.",
                "short",
                value(f"sum(prometheus_remote_write_wal_storage_active_series{{{ALLOY}}})", "series"),
                height=10,
            ),
            logs("What Alloy says", "Alloy's own log.", log_lines('{service="alloy"}')),
        ),
    )


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "alloy",
        "mythical-alloy",
        "Alloy",
        "What comes in, what goes out, what waits and what is lost, signal by signal.",
        (now(), signals(), losses(), targets()),
    )
