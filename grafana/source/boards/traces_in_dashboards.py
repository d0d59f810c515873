"""Traces in Dashboards: a list of traces, and the one that was picked from it."""

from grafana.source.board import Board, Row
from grafana.source.links import dashboard
from grafana.source.panels import lines, logs, table, trace
from grafana.source.queries import log_lines, metric, traces
from grafana.source.variables import Choice, Typed

UID = "b550438e-5e9a-4bfa-8d1d-68a0104c09f2"
CALLS = 'traces_spanmetrics_calls_total{service="mythical-server",span_kind="SPAN_KIND_SERVER"'
SERVED = '{ resource.service.name = "mythical-server" && kind = server && span.http.method =~ "$httpMethod" }'
# The panel of the chosen trace alone, by its number; Grafana's own button leads back. Asked for no trace, Tempo answers
# with an error, so the panel is not shown before one is chosen.
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
                "Requests per second that the server takes, by method.",
                "reqps",
                metric(
                    f'sum by (http_method) (rate({CALLS},http_method=~"$httpMethod"}}[$__rate_interval]))',
                    "{{http_method}}",
                ),
            ),
            logs(
                "Logs by HTTP Method",
                "Lines of the server; the button of a line opens its trace.",
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
                "The latest requests to the server. A click on one opens it; Esc leads back.",
                "ms",
                traces(SERVED),
                width=24,
                height=10,
                links=[PICK],
            ),
        ),
    )
    one = Row(
        "The trace that was chosen, or whose id was typed at the top",
        (trace("Selected Trace", "The chosen trace with all its spans.", traces("${dashTraceID}"), height=18),),
        collapsed=True,
    )
    return Board(
        "traces-in-dashboards",
        UID,
        "Traces in Dashboards",
        "A list of traces, and the one that was picked from it.",
        (by_method, listed, one),
        (
            Typed("dashTraceID", "Trace"),
            Choice("httpMethod", "Method", f"{CALLS}}}", "http_method"),
        ),
        # A list that moves while one reads it cannot be clicked.
        refresh="",
    )
