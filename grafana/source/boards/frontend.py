"""Frontend: what people at a browser experience, and the way from there to the server's trace."""

from typing import NamedTuple

from grafana.source.board import Board, Row
from grafana.source.links import explore
from grafana.source.panels import Panel, lines, logs, override, stat, table, thresholds
from grafana.source.queries import log_lines, log_metric, metric, traces

BROWSERS = '{service_name="mythical-browser"'
SERVED = '{service="mythical-frontend"}'


class Vital(NamedTuple):
    """A measurement of browsers, in `unit`: up to `good` it is good, above `poor` it is poor."""

    name: str
    title: str
    meaning: str
    unit: str
    good: float
    poor: float


# Source of the bounds: web.dev, "Web Vitals". The names are the page's largest content, and have the bounds of its
# paint.
VITALS = (
    Vital("lcp", "Largest contentful paint", "Time until the largest content is painted", "ms", 2500, 4000),
    Vital("inp", "Interaction to next paint", "Time from a click until the page shows its effect", "ms", 200, 500),
    Vital("cls", "Cumulative layout shift", "How far content moves while the page loads", "none", 0.1, 0.25),
    Vital("fcp", "First contentful paint", "Time until the first content is painted", "ms", 1800, 3000),
    Vital("ttfb", "Time to first byte", "Time until the first byte of the page arrives", "ms", 800, 1800),
    Vital("names_shown", "Names shown", "Time from the request for names until the page shows them", "ms", 2500, 4000),
)


def p75(vital: str, window: str) -> str:
    """Return LogQL for the 75th percentile of a measurement."""
    value = f"value_{vital}"
    measured = (
        f'{BROWSERS}, kind="measurement"}} |= "{value}=" | logfmt {value} | unwrap {value} | __error__="" [{window}]'
    )
    return f"quantile_over_time(0.75, {measured}) by (service_name)"


def vital_panel(vital: Vital) -> Panel:
    """Return the panel of one measurement, colored by its bounds."""
    return stat(
        vital.title,
        f"{vital.meaning}: 75th percentile of five minutes. Good up to {vital.good:g}, poor above {vital.poor:g}.",
        vital.unit,
        log_metric(p75(vital.name, "5m"), vital.name),
        width=4,
        thresholds=thresholds((None, "green"), (vital.good, "yellow"), (vital.poor, "red")),
    )


def use() -> Row:
    """Return the row with loads, sessions, and requests."""
    return Row(
        "Use",
        (
            lines(
                "Page loads and sessions",
                "Loads of the page per minute, and the sessions of the last five minutes. A session is one tab.",
                "short",
                log_metric(
                    f'sum(count_over_time({BROWSERS}, kind="measurement"}} |= "value_ttfb=" [1m]))', "page loads"
                ),
                log_metric(
                    f"count(sum by (session_id) (count_over_time({BROWSERS}}} | logfmt session_id [5m])))", "sessions"
                ),
            ),
            lines(
                "Requests",
                "Requests per second that the frontend served, by route and status.",
                "reqps",
                metric(
                    "sum by (http_route, http_response_status_code)"
                    f" (rate(http_server_request_duration_seconds_count{SERVED}[$__rate_interval]))",
                    "{{http_route}} {{http_response_status_code}}",
                ),
            ),
            lines(
                "Names shown, in the browser",
                "75th percentile of the time from the request for names until they are on the page.",
                "ms",
                log_metric(p75("names_shown", "1m"), "in the browser"),
            ),
            lines(
                "Requests for names, at the frontend",
                "75th percentile of the same requests at the frontend; each point links to its trace. If the"
                " time in the browser is much longer, the browser is the cause.",
                "s",
                metric(
                    "histogram_quantile(0.75, sum by (le) (rate(http_server_request_duration_seconds_bucket"
                    '{service="mythical-frontend",http_route="/api/<beast>"}[$__rate_interval])))',
                    "at the frontend",
                    exemplars=True,
                ),
            ),
        ),
    )


def errors() -> Row:
    """Return the row from an error or a slow request in a browser to its trace."""
    slow = '{ resource.service.name = "mythical-frontend" && kind = server && duration > 100ms }'
    return Row(
        "Errors and slow requests",
        (
            lines(
                "Errors in browsers",
                "Errors of scripts and requests per minute, by type.",
                "short",
                log_metric(
                    f'sum by (type) (count_over_time({BROWSERS}, kind="exception"}} | logfmt type [1m]))', "{{type}}"
                ),
                links=[explore("Log lines of the errors", log_lines(f'{BROWSERS}, kind="exception"}}'))],
            ),
            lines(
                "Calls in span metrics",
                "Calls per second from the page to the frontend, and from the frontend to the server, by span.",
                "reqps",
                metric(
                    "sum by (service, span_name) (rate(traces_spanmetrics_calls_total"
                    '{service=~"mythical-browser|mythical-frontend"}[$__rate_interval]))',
                    "{{service}} {{span_name}}",
                ),
            ),
            logs(
                "Errors with their trace",
                "Errors that browsers reported. The button of a line opens the trace, which leads to the log"
                " lines and the SQL statement.",
                log_lines(f'{BROWSERS}, kind="exception"}}'),
                width=12,
                height=11,
            ),
            table(
                "Slow requests",
                "Requests of the page that took more than 100 ms at the frontend. The id opens the trace.",
                "none",
                traces(f"{slow} | select(name, span.beast, span.http.response.status_code)", spans=True),
                columns={
                    "Start time": "Start time",
                    "Span ID": "Span ID",
                    "Name": "Span",
                    "beast": "Beast",
                    "http.response.status_code": "Status",
                    "Duration": "Duration",
                },
                overrides=[
                    override("Start time", custom__width=180),
                    override("Span ID", custom__width=150),
                    override("Duration", unit="ns", custom__width=100),
                ],
                width=12,
                height=11,
                empty="No request took more than 100 ms.",
            ),
        ),
    )


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "frontend",
        "mythical-frontend",
        "Frontend",
        "What people at a browser experience: web vitals, page loads, errors, and slow requests.",
        (Row("Web vitals", tuple(map(vital_panel, VITALS))), use(), errors()),
    )
