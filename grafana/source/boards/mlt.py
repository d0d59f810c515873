"""MLT Dashboard: rate, errors and duration of requests, with links from each value to its traces and logs."""

from grafana.source.board import Board, QueryVariable, Row
from grafana.source.links import explore
from grafana.source.panels import gauge, lines, logs, node_graph, override, stat, table, thresholds
from grafana.source.queries import instant, log_lines, metric, service_map, traces

UID = "ed4f4709-4d3b-48fd-a311-a036b85dbd5b"

CALLS = "traces_spanmetrics_calls_total"
# Measured by the requester: only its spans have the release of a request, and counting the server's spans as well would
# count each request twice.
REQUESTS = 'service="mythical-requester",span_kind="SPAN_KIND_CLIENT"'
CHOSEN = f'{REQUESTS},http_target=~"$httpEndpoint",service_version=~"$serviceVersion",http_status_code=~"$httpStatus"'
FAILED = f'{CHOSEN},status_code="STATUS_CODE_ERROR"'
ERROR_COLORS = thresholds((None, "green"), (0.02, "yellow"), (0.1, "red"))

TRACEQL = 'resource.service.name = "mythical-requester" && span.http.target = "{target}"'
VARIABLES = (
    QueryVariable("httpStatus", "Status", f"{CALLS}{{{REQUESTS}}}", "http_status_code"),
    QueryVariable("httpEndpoint", "Endpoint", f"{CALLS}{{{REQUESTS}}}", "http_target"),
    QueryVariable("serviceVersion", "Release", f"{CALLS}{{{REQUESTS}}}", "service_version"),
)


def found(target: str, condition: str) -> str:
    """Return TraceQL for the requests to one target that match a condition."""
    return "{ " + TRACEQL.format(target=target) + f" && {condition}" + " }"


def share_of_errors(by: str, window: str) -> str:
    """Return PromQL for the share of failed requests, 0 if none failed."""
    failed = f"sum{by} (rate({CALLS}{{{FAILED}}}[{window}]))"
    every = f"sum{by} (rate({CALLS}{{{CHOSEN}}}[{window}]))"
    return f"({failed} or 0 * {every}) / {every}"


def mean_latency(by: str, window: str) -> str:
    """Return PromQL for seconds per request."""
    total, count = (f"traces_spanmetrics_latency_{what}{{{CHOSEN}}}" for what in ("sum", "count"))
    return f"sum by ({by}) (rate({total}[{window}])) / sum by ({by}) (rate({count}[{window}]))"


def rates() -> Row:
    """Return the row with request rate and errors."""
    per_target = f"sum by (http_target) (rate({CALLS}{{{CHOSEN}}}[$__rate_interval]))"
    erroring = traces(found("${__field.labels.http_target}", "status = error"))
    return Row(
        "Rate and errors",
        (
            lines(
                "Request Rate",
                "Requests per second that the requester sends, by endpoint.",
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
                "The share of failed requests over the time range.",
                "percentunit",
                instant(share_of_errors("", "$__range"), "failed"),
                width=8,
                height=5,
                colors=ERROR_COLORS,
            ),
            stat(
                "Error Percentages by Target",
                "The share of failed requests to each endpoint over the time range.",
                "percentunit",
                instant(share_of_errors(" by (http_target)", "$__range"), "{{http_target}}"),
                width=8,
                height=11,
                graph=False,
                thresholds=ERROR_COLORS,
                links=[explore("Traces with errors", erroring)],
            ),
            table(
                "HTTP Status codes by Endpoint",
                "Requests by status over the time range.",
                "short",
                instant(
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
    """Return the row with request durations, measured by the requester and by the server."""
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
                "Mean duration of a request, the ten longest.",
                "s",
                instant(
                    # "> 0" removes 0/0: endpoints without a request within the minute.
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
                "Mean duration of a request, by method and endpoint.",
                "s",
                metric(mean_latency("http_method, http_target", "$__rate_interval"), "{{http_method}} {{http_target}}"),
                width=13,
                height=10,
            ),
            lines(
                "95th Percentile Response Latencies",
                "95th percentile, measured by the server. Each point is one request and links to its trace.",
                "ms",
                metric(quantile.format(q="0.95"), "{{beast}}{{endpoint}}", exemplars=True),
                width=24,
            ),
        ),
    )


def context() -> Row:
    """Return the row with the service graph, the danger level, recorded messages, and the logs of failures."""
    return Row(
        "Around the requests",
        (
            node_graph(
                "Service graph",
                "Calls between services, with rate and mean duration. The red part of the ring is the error rate.",
                service_map(),
                width=14,
                # Three panels share a column, and Grafana's legend covers the bottom of the panel.
                height=17,
            ),
            lines(
                "Danger level",
                "The sum of the danger of all beasts met in the last 30 s. A beholder counts 153, a unicorn 1.",
                "short",
                metric("mythical_danger_level_30s", "danger"),
                width=10,
                height=11,
            ),
            stat(
                "Messages recorded",
                "Messages per second that the recorder has processed. Every successful request publishes one.",
                "mps",
                metric("sum(rate(mythical_messages_recorded_total[$__rate_interval]))", "recorded"),
                width=10,
                height=6,
            ),
            logs(
                "Autologged Errors",
                "Log lines that Alloy generates from failed spans. The button of a line opens its trace.",
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
        "Rate, errors and duration of requests. Each value links to its traces, and each trace to its logs.",
        (rates(), durations(), context()),
        VARIABLES,
    )
