"""MLT Erroring Endpoints: which endpoints fail, how slowly, and at which span it begins."""

from grafana.source.board import Board, Row
from grafana.source.links import explore
from grafana.source.panels import lines, logs, override, table
from grafana.source.queries import log_lines, metric, traces
from grafana.source.variables import Choice

SERVED = 'service="mythical-server",span_kind="SPAN_KIND_SERVER"'
CHOSEN = f'{SERVED},http_target=~"$endpoint"'
FAILED = f'{CHOSEN},status_code="STATUS_CODE_ERROR"'
CALLS = "traces_spanmetrics_calls_total"
FAILED_TRACES = explore(
    "Traces of what failed",
    traces('{ kind = server && span.http.target = "${__field.labels.http_target}" && status = error }'),
)


def rate(selector: str, metric_name: str = CALLS, *, by: str = "http_target") -> str:
    """Return PromQL for a rate by endpoint."""
    return f"sum by ({by}) (rate({metric_name}{{{selector}}}[$__rate_interval]))"


def p99(selector: str) -> str:
    """Return PromQL for the time that one of a hundred requests exceeds."""
    return f"histogram_quantile(0.99, {rate(selector, 'traces_spanmetrics_latency_bucket', by='http_target, le')})"


def board() -> Board:
    """Return the dashboard."""
    how_many = Row(
        "How many, and how slowly",
        (
            lines(
                "Error rates",
                "Requests per second that the server fails, by endpoint.",
                "reqps",
                metric(rate(FAILED), "{{http_target}}"),
                links=[FAILED_TRACES],
            ),
            lines(
                "Share of requests that fail",
                "Failed requests out of all to the same endpoint.",
                "percentunit",
                metric(f"{rate(FAILED)} / {rate(CHOSEN)}", "{{http_target}}"),
                links=[FAILED_TRACES],
            ),
            lines(
                "p99",
                "Of a hundred failed requests one took longer. Each point is one request and leads to its trace.",
                "s",
                metric(p99(FAILED), "{{http_target}}", exemplars=True),
            ),
            lines(
                "p99 of requests that succeed",
                "The same for those that did not fail, to compare.",
                "s",
                metric(p99(f'{CHOSEN},status_code!="STATUS_CODE_ERROR"'), "{{http_target}}"),
            ),
        ),
    )
    cause = Row(
        "Where it begins",
        (
            table(
                "Root Cause: Errors",
                "Spans that failed below a request that was served, with the statement where it was the database.",
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
                "What the server says",
                "Lines of the server at level error; the button of a line opens its trace.",
                log_lines('{job="mythical-server", level="error"} | logfmt | endpoint != ""'),
            ),
        ),
    )
    return Board(
        "mlt-erroring-endpoints",
        "9UKWKDqVy",
        "MLT Erroring Endpoints",
        "Which endpoints fail, how slowly, and at which span it begins.",
        (how_many, cause),
        (Choice("endpoint", "Endpoint", f"{CALLS}{{{SERVED}}}", "http_target"),),
    )
