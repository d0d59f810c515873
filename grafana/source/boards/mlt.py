"""MLT Dashboard: rate, errors and duration of the requests, and from each figure the way to its traces and logs."""

from grafana.source.board import Board, Row
from grafana.source.links import explore
from grafana.source.panels import gauge, lines, logs, node_graph, override, stat, table, thresholds
from grafana.source.queries import figure, log_lines, metric, service_map, traces
from grafana.source.variables import Choice

UID = "ed4f4709-4d3b-48fd-a311-a036b85dbd5b"

CALLS = "traces_spanmetrics_calls_total"
# As the one who asks sees it: only these spans know which release a request pretends to come from, and counting the
# server's spans as well would count each request twice.
ASKED = 'service="mythical-requester",span_kind="SPAN_KIND_CLIENT"'
CHOSEN = f'{ASKED},http_target=~"$httpEndpoint",service_version=~"$serviceVersion",http_status_code=~"$httpStatus"'
FAILED = f'{CHOSEN},status_code="STATUS_CODE_ERROR"'
ERROR_COLORS = thresholds((None, "green"), (0.02, "yellow"), (0.1, "red"))

TRACEQL = 'resource.service.name = "mythical-requester" && span.http.target = "{target}"'
VARIABLES = (
    Choice("httpStatus", "Status", f"{CALLS}{{{ASKED}}}", "http_status_code"),
    Choice("httpEndpoint", "Endpoint", f"{CALLS}{{{ASKED}}}", "http_target"),
    Choice("serviceVersion", "Release", f"{CALLS}{{{ASKED}}}", "service_version"),
)


def found(target: str, condition: str) -> str:
    """Return TraceQL for the requests to one target for which a condition holds."""
    return "{ " + TRACEQL.format(target=target) + f" && {condition}" + " }"


def share_of_errors(by: str, window: str) -> str:
    """Return PromQL for failed requests out of all, 0 where none failed."""
    failed = f"sum{by} (rate({CALLS}{{{FAILED}}}[{window}]))"
    every = f"sum{by} (rate({CALLS}{{{CHOSEN}}}[{window}]))"
    return f"({failed} or 0 * {every}) / {every}"


def mean_latency(by: str, window: str) -> str:
    """Return PromQL for seconds per request."""
    total, count = (f"traces_spanmetrics_latency_{what}{{{CHOSEN}}}" for what in ("sum", "count"))
    return f"sum by ({by}) (rate({total}[{window}])) / sum by ({by}) (rate({count}[{window}]))"


def rates() -> Row:
    """Requests and how many of them fail."""
    per_target = f"sum by (http_target) (rate({CALLS}{{{CHOSEN}}}[$__rate_interval]))"
    erroring = traces(found("${__field.labels.http_target}", "status = error"))
    return Row(
        "Rate and errors",
        (
            lines(
                "Request Rate",
                "Requests per second that the requester makes, for each endpoint.",
                "reqps",
                metric(per_target, "{{http_target}}"),
                width=16,
                links=[
                    explore(
                        "Slow requests to this endpoint",
                        traces(found("${__field.labels.http_target}", "duration > 50ms")),
                    )
                ],
            ),
            gauge(
                "Overall Error %age",
                "Requests that failed, out of all, over the time that is shown.",
                "percentunit",
                figure(share_of_errors("", "$__range"), "failed"),
                width=8,
                height=5,
                colors=ERROR_COLORS,
            ),
            stat(
                "Error Percentages by Target",
                "Requests that failed, out of all to the same endpoint, over the time that is shown.",
                "percentunit",
                figure(share_of_errors(" by (http_target)", "$__range"), "{{http_target}}"),
                width=8,
                height=11,
                graph=False,
                thresholds=ERROR_COLORS,
                links=[explore("Traces of what failed", erroring)],
            ),
            table(
                "HTTP Status codes by Endpoint",
                "How many requests ended with which status, over the time that is shown.",
                "short",
                figure(
                    "sum by (http_target, http_status_code, service_version) "
                    f"(increase({CALLS}{{{CHOSEN}}}[$__range])) > 0",
                    "{{http_target}} {{http_status_code}}",
                    table=True,
                ),
                columns={
                    "http_target": "Endpoint",
                    "http_status_code": "Status",
                    "service_version": "Release",
                    "Value": "Requests",
                },
                sort="Requests",
                width=16,
                height=8,
                links=[
                    explore(
                        "Traces with this status",
                        traces(found("${__data.fields.Endpoint}", "span.http.status_code = ${__data.fields.Status}")),
                    )
                ],
                overrides=[override("Requests", decimals=0)],
            ),
        ),
    )


def durations() -> Row:
    """How long requests take, as the requester sees it and as the server does."""
    slow = found(
        "${__data.fields.Endpoint}",
        'span.http.method = "${__data.fields.Method}" && span.service.version = "${__data.fields.Release}"',
    )
    quantile = (
        "histogram_quantile({q}, sum by (le, beast, endpoint) (rate(mythical_request_times_bucket[$__rate_interval])))"
    )
    return Row(
        "Duration",
        (
            table(
                "Top 10 Highest Endpoint Latencies Over Last Minute",
                "Mean time of a request, the ten longest.",
                "s",
                figure(
                    # Above 0 is everything but 0/0: what nobody asked for within the minute.
                    f"topk(10, {mean_latency('http_method, http_target, service_version', '1m')} > 0)",
                    "{{http_method}} {{http_target}}",
                    table=True,
                ),
                columns={
                    "http_method": "Method",
                    "http_target": "Endpoint",
                    "service_version": "Release",
                    "Value": "Mean",
                },
                sort="Mean",
                width=11,
                height=10,
                links=[explore("Traces of these requests", traces(slow))],
                overrides=[
                    override("Method", custom__width=90),
                    override("Release", custom__width=100),
                    override("Mean", custom__width=110),
                ],
            ),
            lines(
                "All Endpoint Latencies",
                "Mean time of a request, by method and endpoint.",
                "s",
                metric(mean_latency("http_method, http_target", "$__rate_interval"), "{{http_method}} {{http_target}}"),
                width=13,
                height=10,
            ),
            lines(
                "95th Percentile Response Latencies",
                "Of twenty requests one takes the server longer. Each point is one request and leads to its trace.",
                "ms",
                metric(quantile.format(q="0.95"), "{{beast}}{{endpoint}}", exemplars=True),
                width=24,
            ),
        ),
    )


def around() -> Row:
    """Who calls whom, how dangerous it is, and what was logged of failures."""
    return Row(
        "Around the requests",
        (
            node_graph(
                "Service graph",
                "Who calls whom, with requests per second and mean time; the ring is red as far as requests fail.",
                service_map(),
                width=14,
                # Three in a column, and Grafana's legend over the foot of the panel.
                height=17,
            ),
            lines(
                "Danger level",
                "The danger of the beasts that were met in the last 30 s. A beholder counts 153, a unicorn 1.",
                "short",
                metric("mythical_danger_level_30s", "danger"),
                width=10,
                height=11,
            ),
            stat(
                "Messages recorded",
                "Messages per second that the recorder has worked on: every request that succeeds becomes one.",
                "mps",
                metric("sum(rate(mythical_messages_recorded_total[$__rate_interval]))", "recorded"),
                width=10,
                height=6,
            ),
            logs(
                "Autologged Errors",
                "Lines that Alloy makes from spans that failed; the button of a line opens its trace.",
                log_lines('{job="alloy"} | logfmt | status="Error"'),
            ),
        ),
    )


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "mlt",
        UID,
        "MLT Dashboard",
        "Rate, errors and duration of the requests; each figure leads to its traces, each trace to its logs.",
        (rates(), durations(), around()),
        VARIABLES,
    )
