"""Telemetry cost: what each service tells per second, what the stack needs to keep it, and what is lost."""

from grafana.source.board import Board, Row
from grafana.source.panels import Panel, bars, lines, stat, table
from grafana.source.queries import CORES, FETCHED, PUSHED, Query, figure, log_metric, metric, profile_metric

CPU_PROFILES = "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
EVERY_SERVICE = 'group=~"mythical|infrastructure"'
# Mimir reads every series for this: only at the end of the time shown, never for each point of a line.
BY_SERVICE = f"count by (service) ({{{EVERY_SERVICE}}})"
# Those of the service graph are of two services, client and server.
SERIES = f'sort_desc(label_replace({BY_SERVICE}, "service", "between services", "service", ""))'
LARGEST = f"topk(15, count by (__name__, service) ({{{EVERY_SERVICE}}}))"


def rate(name: str, legend: str) -> Query:
    """Return a rate over all that tell of it."""
    return metric(f"sum(rate({name}[$__rate_interval]))", legend, every=FETCHED)


def loss(name: str, legend: str, *, every: str = FETCHED) -> Query:
    """Return the rate of a counter that does not exist before the first loss."""
    return metric(f"sum(rate({name}[$__rate_interval])) or vector(0)", legend, every=every)


def lost() -> Panel:
    """What never arrived."""
    return lines(
        "Lost",
        "Per second: what a service had to give up because nobody took it, or not fast enough.",
        "cps",
        loss('otel_sdk_processor_span_processed_total{error_type="queue_full"}', "spans", every=PUSHED),
        loss('otel_sdk_exporter_span_exported_total{error_type!=""}', "spans that were sent", every=PUSHED),
        loss("mythical_log_lines_dropped_total", "log lines", every=PUSHED),
        loss("otelcol_exporter_send_failed_spans_total", "spans, by Alloy"),
        loss("otelcol_exporter_enqueue_failed_spans_total", "spans, Alloy's queue full"),
        loss("prometheus_remote_storage_samples_failed_total", "samples"),
        loss("loki_write_dropped_entries_total", "log lines, by Alloy"),
        loss("pyroscope_write_dropped_profiles_total", "profiles, by Alloy"),
    )


def totals() -> Row:
    """What the back ends take in."""
    return Row(
        "Taken in",
        (
            stat(
                "Active series",
                "Series that Mimir holds in memory.",
                "short",
                metric('sum(cortex_ingester_memory_series{service="mimir"})', "series", every=FETCHED),
            ),
            stat("Samples", "Samples per second.", "cps", rate("cortex_distributor_received_samples_total", "samples")),
            stat(
                "Spans",
                "Spans per second that Tempo takes.",
                "cps",
                rate("tempo_distributor_spans_received_total", "spans"),
            ),
            stat(
                "Exemplars",
                "Points that lead from a metric to a trace, per second.",
                "cps",
                rate("cortex_distributor_received_exemplars_total", "exemplars"),
            ),
            lines(
                "Bytes taken in",
                "Bytes per second of spans, log lines and profiles, before they are compressed.",
                "Bps",
                rate("tempo_distributor_bytes_received_total", "spans"),
                rate('loki_distributor_bytes_received_total{service="loki"}', "log lines"),
                rate("pyroscope_write_sent_bytes_total", "profiles"),
                width=24,
            ),
        ),
    )


def by_service() -> Row:
    """Who tells how much."""
    return Row(
        "By service",
        (
            bars("Series", "Active series, now.", "short", figure(SERIES, "{{service}}", every=FETCHED), height=16),
            lines(
                "Spans",
                "Spans per second.",
                "cps",
                metric(
                    "sum by (service) (rate(traces_spanmetrics_calls_total[$__rate_interval]))",
                    "{{service}}",
                ),
                stacked=True,
            ),
            lines(
                "Log bytes",
                "Bytes of log lines per second.",
                "Bps",
                log_metric('sum by (service_name) (bytes_rate({service_name=~".+"}[1m]))', "{{service_name}}"),
                stacked=True,
            ),
            lines(
                "Profiled",
                "CPU time that was sampled: a hundred stacks for each second of a core. An idle service has none.",
                CORES,
                profile_metric(CPU_PROFILES, '{service_name=~"mythical-.*"}', by="service_name"),
                stacked=True,
                displayName="${__field.labels.service_name}",
            ),
            lost(),
            table(
                "Largest metrics",
                "Metrics with the most series, now. A label with many values is the usual reason.",
                "short",
                figure(LARGEST, "{{__name__}}", every=FETCHED, table=True),
                columns={"__name__": "Metric", "service": "Service", "Value": "Series"},
                sort="Series",
                width=24,
            ),
        ),
    )


def programs() -> Row:
    """What the programs need. Lines on top of each other need the same points in time, hence FETCHED for all."""
    return Row(
        "What it takes",
        (
            lines(
                "CPU",
                "Processor time in use, by program.",
                CORES,
                metric(
                    f"sum by (service) (rate(process_cpu_seconds_total{{{EVERY_SERVICE}}}[$__rate_interval]))",
                    "{{service}}",
                    every=FETCHED,
                ),
                metric(
                    "sum by (service) (rate(process_cpu_time_seconds_total[$__rate_interval]))",
                    "{{service}}",
                    every=FETCHED,
                ),
                stacked=True,
            ),
            lines(
                "Memory",
                "Physical memory in use, by program.",
                "bytes",
                metric(
                    f"sum by (service) (process_resident_memory_bytes{{{EVERY_SERVICE}}})", "{{service}}", every=FETCHED
                ),
                metric("sum by (service) (rabbitmq_process_resident_memory_bytes)", "{{service}}", every=FETCHED),
                metric("sum by (service) (process_memory_usage_bytes)", "{{service}}", every=FETCHED),
                stacked=True,
            ),
        ),
    )


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "telemetry-cost",
        "mythical-telemetry-cost",
        "Telemetry cost",
        "What each service tells per second, what the stack needs to keep it, and what is lost.",
        (totals(), by_service(), programs()),
        refresh="30s",
    )
