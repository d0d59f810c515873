"""Names of metrics in Mimir: those of the reference, and those that other programs emit."""

import re

from mimir.source.rules import groups
from mimir.source.scales import SCALES
from tests.seams.tree import ROOT, rows, sections, words

UNITS = {"s": "_seconds", "By": "_bytes"}
# Parts of a PromQL expression that are not names of metrics.
STRINGS = re.compile(r'"[^"]*"')
SELECTED = re.compile(r"\{[^{}]*\}")
GROUPED = re.compile(r"\b(?:by|without|on|ignoring)\s*\([^)]*\)")
WINDOWS = re.compile(r"\[[^\]]*\]")
NAMES = re.compile(r"[A-Za-z_:][A-Za-z0-9_:]*(?!\s*\()\b")
WORDS = {"or", "and", "unless", "bool", "offset", "by", "without", "on", "ignoring"}

# Emitted by the programs of the stack. Each was seen in Mimir with the versions of .env.
FROM_OTHERS = frozenset(
    """
    up
    process_cpu_seconds_total process_resident_memory_bytes
    traces_spanmetrics_calls_total
    traces_spanmetrics_latency_bucket traces_spanmetrics_latency_sum traces_spanmetrics_latency_count
    alloy_component_controller_running_components
    otelcol_receiver_accepted_spans_total otelcol_receiver_accepted_metric_points_total
    otelcol_receiver_refused_spans_total
    otelcol_exporter_sent_spans_total otelcol_exporter_send_failed_spans_total
    otelcol_exporter_enqueue_failed_spans_total otelcol_exporter_queue_size otelcol_exporter_queue_capacity
    prometheus_remote_storage_samples_total prometheus_remote_storage_samples_failed_total
    prometheus_remote_storage_samples_pending prometheus_remote_write_wal_storage_active_series
    loki_source_api_entries_written loki_write_sent_entries_total loki_write_dropped_entries_total
    pyroscope_write_sent_profiles_total pyroscope_write_sent_bytes_total pyroscope_write_dropped_profiles_total
    cortex_ingester_memory_series
    cortex_distributor_received_samples_total cortex_distributor_received_exemplars_total
    tempo_distributor_spans_received_total tempo_distributor_bytes_received_total
    loki_distributor_bytes_received_total
    pg_up pg_database_size_bytes pg_wal_size_bytes pg_locks_count
    pg_stat_database_numbackends pg_stat_database_blks_hit pg_stat_database_blks_read
    pg_stat_database_xact_commit pg_stat_database_xact_rollback
    pg_stat_database_tup_fetched pg_stat_database_tup_inserted pg_stat_database_tup_deleted
    pg_stat_activity_count pg_stat_activity_max_tx_duration pg_stat_user_tables_n_live_tup
    pg_stat_user_tables_n_dead_tup pg_stat_user_tables_n_mod_since_analyze
    pg_statements_calls pg_statements_seconds pg_statements_rows pg_statements_blocks_hit pg_statements_blocks_read
    pg_waits_sessions pg_blocked_sessions
    rabbitmq_detailed_queue_consumers rabbitmq_detailed_queue_messages_ready
    rabbitmq_detailed_queue_messages_unacked
    rabbitmq_channel_messages_confirmed_total
    rabbitmq_process_resident_memory_bytes rabbitmq_resident_memory_limit_bytes
    rabbitmq_connections rabbitmq_channels
    rabbitmq_connection_incoming_bytes_total rabbitmq_connection_outgoing_bytes_total
    """.split()
)


def documented() -> frozenset[str]:
    """Return the names in Mimir of the metrics of docs/reference/telemetry.md."""
    text = (ROOT / "docs/reference/telemetry.md").read_text(encoding="utf-8")
    parts = dict(sections(text))
    section = parts["Metrics"]
    found: set[str] = set()
    for row in rows(section) + rows(parts["Metrics of the load"]):
        found |= in_mimir(words(row["Metric"])[0], row["Kind"], "".join(words(row["Unit"])))
    for name in re.findall(r"`(otel\.[a-z.]+)`", section):
        found |= in_mimir(name, "counter" if name.endswith("processed") else "gauge", "")
    return frozenset(found)


def recorded() -> frozenset[str]:
    """Return the series that the rules record, and the series that the ruler makes of alerts."""
    return frozenset(rule.record for one in SCALES for group in groups(one) for rule in group.rules) | {"ALERTS"}


def queried_by_rules() -> set[str]:
    """Return the metrics that the rules query, except for those that other rules record."""
    queried = (names_in(rule.expression) for one in SCALES for group in groups(one) for rule in group.rules)
    return set().union(*queried) - recorded()


def in_mimir(name: str, kind: str, unit: str) -> set[str]:
    """Return the names under which Prometheus stores a metric of OpenTelemetry."""
    base = name.replace(".", "_") + UNITS.get(unit, "")
    if kind == "histogram":
        return {f"{base}_{part}" for part in ("bucket", "sum", "count")}
    return {f"{base}_total"} if kind == "counter" else {base}


def names_in(expression: str) -> set[str]:
    """Return the metrics that a PromQL expression queries."""
    for noise in (STRINGS, SELECTED, GROUPED, WINDOWS):
        expression = noise.sub(" ", expression)
    return set(NAMES.findall(expression)) - WORDS
