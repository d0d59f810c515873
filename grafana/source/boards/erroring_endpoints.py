"""MLT Erroring Endpoints: which endpoints fail, how long that takes, and in which span the error starts."""

from grafana.source.board import Board, QueryVariable, Row
from grafana.source.links import explore
from grafana.source.panels import lines, logs, override, table
from grafana.source.queries import log_lines, metric, traces

SERVED = 'service="mythical-server",span_kind="SPAN_KIND_SERVER"'
CHOSEN = f'{SERVED},http_target=~"$endpoint"'
FAILED = f'{CHOSEN},status_code="STATUS_CODE_ERROR"'
CALLS = "traces_spanmetrics_calls_total"
FAILED_TRACES = explore(
    "Traces with errors",
    traces('{ kind = server && span.http.target = "${__field.labels.http_target}" && status = error }'),
)


def rate(selector: str, metric_name: str = CALLS, *, by: str = "http_target") -> str:
    """Return PromQL for a rate by endpoint."""
    return f"sum by ({by}) (rate({metric_name}{{{selector}}}[$__rate_interval]))"


def p99(selector: str) -> str:
    """Return PromQL for the 99th percentile of durations."""
    return f"histogram_quantile(0.99, {rate(selector, 'traces_spanmetrics_latency_bucket', by='http_target, le')})"


def board() -> Board:
    """Return the dashboard."""
    how_many = Row(
        "Rate and duration",
        (
            lines(
                "Error rates",
                "Failed requests per second, by endpoint.",
                "reqps",
                metric(rate(FAILED), "{{http_target}}"),
                links=[FAILED_TRACES],
            ),
            lines(
                "Share of failed requests",
                "The share of failed requests to each endpoint.",
                "percentunit",
                metric(f"{rate(FAILED)} / {rate(CHOSEN)}", "{{http_target}}"),
                links=[FAILED_TRACES],
            ),
            lines(
                "p99",
                "99th percentile of failed requests. Each point is one request and links to its trace.",
                "s",
                metric(p99(FAILED), "{{http_target}}", exemplars=True),
            ),
            lines(
                "p99 of successful requests",
                "The same for successful requests, to compare.",
                "s",
                metric(p99(f'{CHOSEN},status_code!="STATUS_CODE_ERROR"'), "{{http_target}}"),
            ),
        ),
    )
    cause = Row(
        "Root cause",
        (
            table(
                "Root Cause: Errors",
                "Failed spans below a server request, with the statement if the database failed.",
                "none",
                traces(
                    '{ span.http.target =~ "$endpoint" && kind = server } >> { status = error } '
                    "| select(name, span.db.statement, span.db.response.status_code)",
                    spans=True,
                ),
                columns={
                    "Start time": "Start time",
                    "Span ID": "Span ID",
                    "Name": "Span",
                    "db.statement": "Statement",
                    "db.response.status_code": "SQLSTATE",
                    "Duration": "Duration",
                },
                overrides=[
                    override("Start time", custom__width=195),
                    override("Span ID", custom__width=160),
                    override("Span", custom__width=170),
                    override("SQLSTATE", custom__width=110),
                    override("Duration", unit="ns", custom__width=110),
                ],
                width=24,
                height=11,
            ),
            logs(
                "Server log",
                "Log lines of the server at level error. The button of a line opens its trace.",
                log_lines('{job="mythical-server", level="error"} | logfmt | endpoint != ""'),
            ),
        ),
    )
    return Board(
        "mlt-erroring-endpoints",
        "9UKWKDqVy",
        "MLT Erroring Endpoints",
        "Which endpoints fail, how long that takes, and in which span the error starts.",
        (how_many, cause),
        (QueryVariable("endpoint", "Endpoint", f"{CALLS}{{{SERVED}}}", "http_target"),),
    )
