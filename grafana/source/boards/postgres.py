"""Postgres: from a slow request to its plan, the state of the database, and table sizes."""

from grafana.source.board import Board, QueryVariable, Row
from grafana.source.links import explore
from grafana.source.panels import lines, logs, override, stat, table, thresholds
from grafana.source.queries import SCRAPED, Query, log_lines, metric, sql, traces

SPANS = '{ resource.service.name = "mythical-server" && span.db.system = "postgresql"'
DATABASE = 'datname="postgres"'
TABLES = """\
SELECT relname AS "Table", n_live_tup AS "Rows", n_dead_tup AS "Dead rows",
       pg_total_relation_size(relid) AS "Size", seq_scan AS "Whole reads", idx_scan AS "Reads by index"
FROM pg_stat_user_tables
WHERE schemaname = 'public'
ORDER BY n_live_tup DESC"""


def per_second(name: str, legend: str, *, by: str = "", labels: str = DATABASE) -> Query:
    """Return the rate of one of the exporter's counters."""
    grouped = f"sum by ({by})" if by else "sum"
    return metric(f"{grouped} (rate({name}{{{labels}}}[$__rate_interval]))", legend, every=SCRAPED)


def now() -> Row:
    """Return the row with the state at a glance."""
    return Row(
        "Now",
        (
            stat(
                "Up",
                "Whether the exporter can connect to the database.",
                "bool_yes_no",
                metric("pg_up", "up", every=SCRAPED),
                thresholds=thresholds((None, "red"), (1, "green")),
            ),
            stat(
                "Connections",
                "Connections to the database, of all clients.",
                "short",
                metric(f"sum(pg_stat_database_numbackends{{{DATABASE}}})", "connections", every=SCRAPED),
            ),
            stat(
                "Cache hit rate",
                "The share of blocks that Postgres found in its own cache.",
                "percentunit",
                metric(
                    f"sum(rate(pg_stat_database_blks_hit{{{DATABASE}}}[$__rate_interval])) / clamp_min("
                    f"sum(rate(pg_stat_database_blks_hit{{{DATABASE}}}[$__rate_interval])) + "
                    f"sum(rate(pg_stat_database_blks_read{{{DATABASE}}}[$__rate_interval])), 1)",
                    "in memory",
                    every=SCRAPED,
                ),
                thresholds=thresholds((None, "red"), (0.8, "yellow"), (0.95, "green")),
            ),
            stat(
                "Size",
                "Size of the database on disk.",
                "bytes",
                metric(f"sum(pg_database_size_bytes{{{DATABASE}}})", "size", every=SCRAPED),
            ),
        ),
    )


def server_statements() -> Row:
    """Return the row with the server's statements, from its own metrics and spans."""
    duration = "db_client_operation_duration_seconds"
    p95 = f"histogram_quantile(0.95, sum by (le, db_operation_name) (rate({duration}_bucket[$__rate_interval])))"
    statement = f'{SPANS} && span.db.operation.name = "${{__field.labels.db_operation_name}}" }}'
    return Row(
        "Statements of the server",
        (
            lines(
                "Statements",
                "Statements per second, by operation.",
                "ops",
                metric(
                    f"sum by (db_operation_name) (rate({duration}_count[$__rate_interval]))", "{{db_operation_name}}"
                ),
                links=[explore("Traces with such statements", traces(statement))],
            ),
            lines(
                "Duration of a statement",
                "95th percentile of statement durations. Each point is one statement and links to its trace.",
                "s",
                metric(p95, "{{db_operation_name}} p95", exemplars=True),
            ),
            lines(
                "Failed statements",
                "Statements per second that Postgres rejected, by SQLSTATE: 23502 is a missing name.",
                "ops",
                metric(
                    f'sum by (error_type) (rate({duration}_count{{error_type!=""}}[$__rate_interval])) '
                    'or label_replace(vector(0), "error_type", "none", "", "")',
                    "{{error_type}}",
                ),
                links=[
                    explore(
                        "Traces with errors",
                        traces(f"{SPANS} && status = error }}"),
                    )
                ],
            ),
            lines(
                "The server's pool",
                "Connections of the server's pool, and requests that wait for one. If any wait, the pool is too small.",
                "short",
                metric(
                    "sum by (db_client_connection_state) (db_client_connection_count)", "{{db_client_connection_state}}"
                ),
                metric("sum(db_client_connection_pending_requests)", "waiting requests"),
                metric("sum(db_client_connection_max)", "limit"),
                overrides=[override("limit", custom__lineStyle={"fill": "dash"}, custom__fillOpacity=0)],
            ),
        ),
    )


STATEMENT = 'query_id=~"$statement"'


def per_statement(name: str) -> Query:
    """Return the rate of one of Postgres's counters for the ten statements with the highest rate."""
    rate = f"sum by (query_id, query) (rate(pg_statements_{name}{{{STATEMENT}}}[$__rate_interval]))"
    return metric(f"topk(10, {rate})", "{{query}}", every=SCRAPED)


def slow_route() -> Row:
    """Return the row that leads from a slow route to its statement, its plan, and the holder of a lock."""
    route = "histogram_quantile(0.95, sum by (le, span_name) (rate(traces_spanmetrics_latency_bucket"
    route += '{service="mythical-server",span_kind="SPAN_KIND_SERVER"}[$__rate_interval])))'
    slow = '{ resource.service.name = "mythical-server" && name = "${__field.labels.span_name}" && duration > 100ms }'
    plans = log_lines('{service_name="postgres"} | query_id="${__field.labels.query_id}"')
    return Row(
        "From a slow request to its plan",
        (
            lines(
                "Slow routes",
                "95th percentile of request durations. A statement of a trace links to Postgres's log about it.",
                "s",
                metric(route, "{{span_name}}"),
                links=[explore("Slow traces of this route", traces(slow))],
                width=8,
            ),
            lines(
                "Time of statements",
                "Sessions that are busy with each statement, as Postgres counts: seconds of execution per second.",
                "short",
                per_statement("seconds"),
                links=[explore("Plans of this statement", plans)],
                width=8,
            ),
            lines(
                "Calls of statements",
                "Executions per second. Many calls of a statement that reads one row are an N+1 query.",
                "ops",
                per_statement("calls"),
                links=[explore("Plans of this statement", plans)],
                width=8,
            ),
            lines(
                "Rows of statements",
                "Rows per second that each statement returned or changed.",
                "rowsps",
                per_statement("rows"),
                width=8,
            ),
            lines(
                "Blocks of statements",
                "Blocks per second found in the cache. A statement that reads a whole table needs many for few rows.",
                "ops",
                per_statement("blocks_hit"),
                width=8,
            ),
            lines(
                "Blocks from disk",
                "Blocks per second that each statement did not find in the cache.",
                "ops",
                per_statement("blocks_read"),
                width=8,
            ),
            lines(
                "What sessions wait for",
                "Busy sessions by what they wait for.",
                "short",
                metric(
                    "sum by (wait_event_type, wait_event) (pg_waits_sessions)",
                    "{{wait_event_type}} {{wait_event}}",
                    every=SCRAPED,
                ),
                width=8,
            ),
            lines(
                "Blocked sessions",
                "Sessions that wait for a lock, by the application that holds it and the state of its session.",
                "short",
                metric(
                    "sum by (holder, holder_state) (pg_blocked_sessions)",
                    "{{holder}}, {{holder_state}}",
                    every=SCRAPED,
                ),
                width=8,
            ),
            lines(
                "Outdated statistics and dead rows",
                "Rows changed since the planner's statistics were made, and dead rows, of all tables.",
                "short",
                metric("sum by (relname) (pg_stat_user_tables_n_mod_since_analyze) > 0", "{{relname}}", every=SCRAPED),
                metric("sum(pg_stat_user_tables_n_dead_tup)", "dead rows", every=SCRAPED),
                width=8,
            ),
            logs(
                "Log of Postgres",
                "Plans of slow statements, waits for locks, errors. Buttons open the trace and the holder's traces.",
                log_lines('{service_name="postgres"}'),
            ),
        ),
    )


def database_state() -> Row:
    """Return the row with the state of the database, from its exporter."""
    return Row(
        "State of the database",
        (
            lines(
                "Transactions",
                "Transactions per second, committed and rolled back.",
                "ops",
                per_second("pg_stat_database_xact_commit", "committed"),
                per_second("pg_stat_database_xact_rollback", "rolled back"),
                width=8,
            ),
            lines(
                "Rows",
                "Rows per second that were read, written and deleted.",
                "ops",
                per_second("pg_stat_database_tup_fetched", "fetched"),
                per_second("pg_stat_database_tup_inserted", "inserted"),
                per_second("pg_stat_database_tup_deleted", "deleted"),
                width=8,
            ),
            lines(
                "Connections by state",
                "A connection that is idle in transaction holds locks and does nothing.",
                "short",
                metric(
                    f"sum by (state) (pg_stat_activity_count{{{DATABASE}}}) > 0 or "
                    f'sum by (state) (pg_stat_activity_count{{{DATABASE},state=~"active|idle"}})',
                    "{{state}}",
                    every=SCRAPED,
                ),
                width=8,
            ),
            lines(
                "Locks",
                "Locks held, by mode.",
                "short",
                metric(f"sum by (mode) (pg_locks_count{{{DATABASE}}})", "{{mode}}", every=SCRAPED),
                width=8,
            ),
            lines(
                "Longest transaction",
                "How long the oldest open transaction has been running.",
                "s",
                metric(f"max(pg_stat_activity_max_tx_duration{{{DATABASE}}})", "longest", every=SCRAPED),
                width=8,
            ),
            lines(
                "Write-ahead log",
                "Size of the write-ahead log on disk.",
                "bytes",
                metric("sum(pg_wal_size_bytes)", "log", every=SCRAPED),
                width=8,
            ),
        ),
    )


def tables() -> Row:
    """Return the row with table sizes."""
    return Row(
        "Tables",
        (
            lines(
                "Rows by table",
                "Rows of each beast's table, as Postgres estimates them. The server keeps each below its limit.",
                "short",
                metric("sum by (relname) (pg_stat_user_tables_n_live_tup)", "{{relname}}", every=SCRAPED),
            ),
            table(
                "Tables now",
                "Queried from Postgres as the read-only role grafana.",
                "short",
                sql(TABLES),
                height=8,
                overrides=[override("Size", unit="bytes")],
            ),
        ),
    )


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "postgres",
        "mythical-postgres",
        "Postgres",
        "From a slow request to its plan, the state of the database, and table sizes.",
        (now(), slow_route(), server_statements(), database_state(), tables()),
        (QueryVariable("statement", "Statement", "pg_statements_calls", "query_id"),),
    )
