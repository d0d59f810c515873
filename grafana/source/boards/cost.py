"""Telemetry cost: what each service emits per second, what the stack needs to store it, and what is lost."""

from grafana.source.board import Board, Row
from grafana.source.panels import Panel, bars, lines, stat, table
from grafana.source.queries import CORES, PUSHED, SCRAPED, Query, instant, log_metric, metric, profile_metric

CPU_PROFILES = "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
EVERY_SERVICE = 'group=~"mythical|infrastructure"'
# Mimir reads every series for this query, so it is evaluated only once, at the end of the time range.
BY_SERVICE = f"count by (service) ({{{EVERY_SERVICE}}})"
# Series of the service graph belong to two services, client and server.
SERIES = f'sort_desc(label_replace({BY_SERVICE}, "service", "between services", "service", ""))'
LARGEST = f"topk(15, count by (__name__, service) ({{{EVERY_SERVICE}}}))"


def rate(name: str, legend: str) -> Query:
    """Return a rate summed over all sources."""
    return metric(f"sum(rate({name}[$__rate_interval]))", legend, every=SCRAPED)


def loss(name: str, legend: str, *, every: str = SCRAPED) -> Query:
    """Return the rate of a counter that does not exist before the first loss."""
    return metric(f"sum(rate({name}[$__rate_interval])) or vector(0)", legend, every=every)


def lost() -> Panel:
    """Return the row with lost data."""
    return lines(
        "Lost",
        "Per second: data that a service dropped because it was not accepted, or not fast enough.",
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
    """Return the row with the backends' intake."""
    return Row(
        "Received",
        (
            stat(
                "Active series",
                "Series that Mimir holds in memory.",
                "short",
                metric('sum(cortex_ingester_memory_series{service="mimir"})', "series", every=SCRAPED),
            ),
            stat("Samples", "Samples per second.", "cps", rate("cortex_distributor_received_samples_total", "samples")),
            stat(
                "Spans",
                "Spans per second that Tempo receives.",
                "cps",
                rate("tempo_distributor_spans_received_total", "spans"),
            ),
            stat(
                "Exemplars",
                "Exemplars per second, which link a metric to a trace.",
                "cps",
                rate("cortex_distributor_received_exemplars_total", "exemplars"),
            ),
            lines(
                "Bytes received",
                "Bytes per second of spans, log lines and profiles, before compression.",
                "Bps",
                rate("tempo_distributor_bytes_received_total", "spans"),
                rate('loki_distributor_bytes_received_total{service="loki"}', "log lines"),
                rate("pyroscope_write_sent_bytes_total", "profiles"),
                width=24,
            ),
        ),
    )


def by_service() -> Row:
    """Return the row with data by service."""
    return Row(
        "By service",
        (
            bars("Series", "Active series now.", "short", instant(SERIES, "{{service}}", every=SCRAPED), height=16),
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
                "Sampled CPU time: a hundred stacks per second of a core. An idle service has none.",
                CORES,
                profile_metric(CPU_PROFILES, '{service_name=~"mythical-.*"}', by="service_name"),
                stacked=True,
                displayName="${__field.labels.service_name}",
            ),
            lost(),
            table(
                "Largest metrics",
                "Metrics with the most series now. The usual cause is a label with many values.",
                "short",
                instant(LARGEST, "{{__name__}}", every=SCRAPED, table=True),
                columns={"__name__": "Metric", "service": "Service", "Value": "Series"},
                sort="Series",
                width=24,
            ),
        ),
    )


def per_request() -> Row:
    """Return the row that compares services that serve requests, whatever their load and their INSTRUMENTATION."""
    served = 'sum by (service) (rate(traces_spanmetrics_calls_total{span_kind="SPAN_KIND_SERVER"}[$__rate_interval]))'
    return Row(
        "Per request",
        (
            lines(
                "Spans per request",
                "Spans that a service sends for each request it serves. With INSTRUMENTATION=zero-code, health checks "
                "and statements outside requests add some.",
                "short",
                metric(
                    f"sum by (service) (rate(traces_spanmetrics_calls_total[$__rate_interval])) / {served}",
                    "{{service}}",
                    every=SCRAPED,
                ),
            ),
            lines(
                "CPU per request",
                "CPU time of a service for each request it serves. With INSTRUMENTATION=off, ebpf, and zero-code, a "
                "service doesn't measure it.",
                "s",
                metric(
                    f"sum by (service) (rate(process_cpu_time_seconds_total[$__rate_interval])) / {served}",
                    "{{service}}",
                    every=SCRAPED,
                ),
            ),
        ),
    )


def programs() -> Row:
    """Return the row with resource usage. Stacked lines need the same timestamps, hence SCRAPED for all."""
    return Row(
        "Resource usage",
        (
            lines(
                "CPU",
                "CPU time in use, by program.",
                CORES,
                metric(
                    f"sum by (service) (rate(process_cpu_seconds_total{{{EVERY_SERVICE}}}[$__rate_interval]))",
                    "{{service}}",
                    every=SCRAPED,
                ),
                metric(
                    "sum by (service) (rate(process_cpu_time_seconds_total[$__rate_interval]))",
                    "{{service}}",
                    every=SCRAPED,
                ),
                stacked=True,
            ),
            lines(
                "Memory",
                "Physical memory in use, by program.",
                "bytes",
                metric(
                    f"sum by (service) (process_resident_memory_bytes{{{EVERY_SERVICE}}})", "{{service}}", every=SCRAPED
                ),
                metric("sum by (service) (rabbitmq_process_resident_memory_bytes)", "{{service}}", every=SCRAPED),
                metric("sum by (service) (process_memory_usage_bytes)", "{{service}}", every=SCRAPED),
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
        "What each service emits per second, what the stack needs to store it, and what is lost.",
        (totals(), by_service(), per_request(), programs()),
        refresh="30s",
    )
