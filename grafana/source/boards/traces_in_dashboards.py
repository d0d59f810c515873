"""Traces in Dashboards: a list of traces, and the selected one."""

from grafana.source.board import Board, QueryVariable, Row, TextVariable
from grafana.source.links import dashboard
from grafana.source.panels import lines, logs, table, trace
from grafana.source.queries import log_lines, metric, traces

UID = "b550438e-5e9a-4bfa-8d1d-68a0104c09f2"
CALLS = 'traces_spanmetrics_calls_total{service="mythical-server",span_kind="SPAN_KIND_SERVER"'
SERVED = '{ resource.service.name = "mythical-server" && kind = server && span.http.method =~ "$httpMethod" }'
# Only the panel of the selected trace, by its number; Grafana's own button returns. Without a trace id, Tempo responds
# with an error, so the panel is hidden until a trace is selected.
PICK = dashboard(
    "Show this trace",
    UID,
    panel=7,
    dashTraceID="${__data.fields.traceID}",
    httpMethod="${httpMethod:percentencode}",
)


def board() -> Board:
    """Return the dashboard."""
    by_method = Row(
        "By HTTP method",
        (
            lines(
                "Calls total by HTTP Method",
                "Requests per second that the server receives, by method.",
                "reqps",
                metric(
                    f'sum by (http_method) (rate({CALLS},http_method=~"$httpMethod"}}[$__rate_interval]))',
                    "{{http_method}}",
                ),
            ),
            logs(
                "Logs by HTTP Method",
                "Log lines of the server. The button of a line opens its trace.",
                log_lines('{service_name="mythical-server"} | logfmt | http_method=~"$httpMethod"'),
                width=12,
                height=8,
            ),
        ),
    )
    listed = Row(
        "Traces",
        (
            table(
                "Traces by HTTP Method",
                "The latest requests to the server. Click one to open it; Esc returns.",
                "ms",
                traces(SERVED),
                width=24,
                height=10,
                links=[PICK],
            ),
        ),
    )
    one = Row(
        "The selected trace, or the one whose id was entered at the top",
        (trace("Selected Trace", "The selected trace with all its spans.", traces("${dashTraceID}"), height=18),),
        collapsed=True,
    )
    return Board(
        "traces-in-dashboards",
        UID,
        "Traces in Dashboards",
        "A list of traces, and the selected one.",
        (by_method, listed, one),
        (
            TextVariable("dashTraceID", "Trace"),
            QueryVariable("httpMethod", "Method", f"{CALLS}}}", "http_method"),
        ),
        # No refresh: a list that moves cannot be clicked.
        refresh="",
    )
