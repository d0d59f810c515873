"""Postgres: what the server asks of it, how it copes, and how large the tables are."""

from grafana.source.board import Board, Row
from grafana.source.links import explore
from grafana.source.panels import lines, override, stat, table, thresholds
from grafana.source.queries import FETCHED, Query, metric, sql, traces

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
    return metric(f"{grouped} (rate({name}{{{labels}}}[$__rate_interval]))", legend, every=FETCHED)


def now() -> Row:
    """The state at a glance."""
    return Row(
        "Now",
        (
            stat(
                "Up",
                "Whether the exporter reaches the database.",
                "bool_yes_no",
                metric("pg_up", "up", every=FETCHED),
                thresholds=thresholds((None, "red"), (1, "green")),
            ),
            stat(
                "Connections",
                "Connections to the database, of all programs.",
                "short",
                metric(f"sum(pg_stat_database_numbackends{{{DATABASE}}})", "connections", every=FETCHED),
            ),
            stat(
                "Found in memory",
                "Blocks that Postgres had in its own cache, out of all it needed.",
                "percentunit",
                metric(
                    f"sum(rate(pg_stat_database_blks_hit{{{DATABASE}}}[$__rate_interval])) / clamp_min("
                    f"sum(rate(pg_stat_database_blks_hit{{{DATABASE}}}[$__rate_interval])) + "
                    f"sum(rate(pg_stat_database_blks_read{{{DATABASE}}}[$__rate_interval])), 1)",
                    "in memory",
                    every=FETCHED,
                ),
                thresholds=thresholds((None, "red"), (0.8, "yellow"), (0.95, "green")),
            ),
            stat(
                "Size",
                "The database on disk.",
                "bytes",
                metric(f"sum(pg_database_size_bytes{{{DATABASE}}})", "size", every=FETCHED),
            ),
        ),
    )


def asked() -> Row:
    """What the server asks, as its own metrics and spans tell."""
    duration = "db_client_operation_duration_seconds"
    p95 = f"histogram_quantile(0.95, sum by (le, db_operation_name) (rate({duration}_bucket[$__rate_interval])))"
    statement = f'{SPANS} && span.db.operation.name = "${{__field.labels.db_operation_name}}" }}'
    return Row(
        "What the server asks",
        (
            lines(
                "Statements",
                "Statements per second, by what they do.",
                "ops",
                metric(
                    f"sum by (db_operation_name) (rate({duration}_count[$__rate_interval]))", "{{db_operation_name}}"
                ),
                links=[explore("Traces with such statements", traces(statement))],
            ),
            lines(
                "Duration of a statement",
                "Of twenty statements one takes longer than this; each point is one statement and leads to its trace.",
                "s",
                metric(p95, "{{db_operation_name}} p95", exemplars=True),
            ),
            lines(
                "Failed statements",
                "Statements per second that Postgres refused, by SQLSTATE: 23502 is a name that is missing.",
                "ops",
                metric(
                    f'sum by (error_type) (rate({duration}_count{{error_type!=""}}[$__rate_interval])) '
                    'or label_replace(vector(0), "error_type", "none", "", "")',
                    "{{error_type}}",
                ),
                links=[
                    explore(
                        "Traces of what failed",
                        traces(f"{SPANS} && status = error }}"),
                    )
                ],
            ),
            lines(
                "The server's pool",
                "Connections that the server holds, and requests that wait for one: with any, the pool is too small.",
                "short",
                metric(
                    "sum by (db_client_connection_state) (db_client_connection_count)", "{{db_client_connection_state}}"
                ),
                metric("sum(db_client_connection_pending_requests)", "requests that wait"),
                metric("sum(db_client_connection_max)", "limit"),
                overrides=[override("limit", custom__lineStyle={"fill": "dash"}, custom__fillOpacity=0)],
            ),
        ),
    )


def copes() -> Row:
    """How the database copes, as its exporter tells."""
    return Row(
        "How the database copes",
        (
            lines(
                "Transactions",
                "Transactions per second, and how many of them were rolled back.",
                "ops",
                per_second("pg_stat_database_xact_commit", "committed"),
                per_second("pg_stat_database_xact_rollback", "rolled back"),
                width=8,
            ),
            lines(
                "Rows",
                "Rows per second that were read, written and removed.",
                "ops",
                per_second("pg_stat_database_tup_fetched", "fetched"),
                per_second("pg_stat_database_tup_inserted", "inserted"),
                per_second("pg_stat_database_tup_deleted", "deleted"),
                width=8,
            ),
            lines(
                "Connections by state",
                "Idle in transaction is a connection that holds locks and does nothing.",
                "short",
                metric(
                    f"sum by (state) (pg_stat_activity_count{{{DATABASE}}}) > 0 or "
                    f'sum by (state) (pg_stat_activity_count{{{DATABASE},state=~"active|idle"}})',
                    "{{state}}",
                    every=FETCHED,
                ),
                width=8,
            ),
            lines(
                "Locks",
                "Locks that are held, by mode.",
                "short",
                metric(f"sum by (mode) (pg_locks_count{{{DATABASE}}})", "{{mode}}", every=FETCHED),
                width=8,
            ),
            lines(
                "Longest transaction",
                "How long the oldest open transaction has been at it.",
                "s",
                metric(f"max(pg_stat_activity_max_tx_duration{{{DATABASE}}})", "longest", every=FETCHED),
                width=8,
            ),
            lines(
                "Write-ahead log",
                "What the write-ahead log holds on disk.",
                "bytes",
                metric("sum(pg_wal_size_bytes)", "log", every=FETCHED),
                width=8,
            ),
        ),
    )


def tables() -> Row:
    """How large the tables are."""
    return Row(
        "Tables",
        (
            lines(
                "Rows by table",
                "Rows of each beast's table, as Postgres estimates them. The server keeps each below its limit.",
                "short",
                metric("sum by (relname) (pg_stat_user_tables_n_live_tup)", "{{relname}}", every=FETCHED),
            ),
            table(
                "Tables now",
                "Asked of Postgres itself, as the role grafana, which may read and nothing else.",
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
        "What the server asks of the database, how the database copes, and how large the tables are.",
        (now(), asked(), copes(), tables()),
    )
