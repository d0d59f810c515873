"""Locust: load runs, users, their results, and whether the load generator kept up."""

from grafana.source.board import RUNNING, Board, QueryVariable, Row
from grafana.source.links import explore
from grafana.source.panels import lines, override, stat, table, thresholds, timeline
from grafana.source.queries import CORES, instant, metric, traces

RUN = 'run_id=~"$run"'
GENERATOR = 'service="mythical-loadtest"'
ROUNDS = traces('{ resource.service.name = "mythical-loadtest" && name =~ ".* round" }')


def rate(name: str, *, by: str = "", having: str = "") -> str:
    """Return the rate of a counter in the selected runs."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({name}{{{RUN}{having}}}[$__rate_interval]))"


def quantile(share: str) -> str:
    """Return a quantile of the request durations."""
    return f"histogram_quantile({share}, {rate('locust_request_duration_seconds_bucket', by='le')})"


def share_of_checks(*, by: str = "") -> str:
    """Return the share of checks that passed."""
    held = rate("locust_checks_total", by=by, having=',result="held"')
    return f"{held} / {rate('locust_checks_total', by=by)}"


def now() -> Row:
    """Return the row with the state at a glance."""
    return Row(
        "Now",
        (
            stat("Users", "Active users.", "short", metric(f"sum(locust_users{{{RUN}}})", "users"), width=4),
            stat(
                "Requests",
                "Requests per second, measured by the users.",
                "reqps",
                metric(rate("locust_requests_total"), "requests"),
                width=5,
            ),
            stat(
                "p95",
                "95th percentile of the request durations, measured by the users.",
                "s",
                metric(quantile("0.95"), "p95"),
                width=5,
                thresholds=thresholds((None, "green"), (0.3, "red")),
            ),
            stat(
                "Checks passed",
                "The share of checks of status, time and content that passed.",
                "percentunit",
                metric(share_of_checks(), "held"),
                width=5,
                thresholds=thresholds((None, "red"), (0.98, "green")),
            ),
            stat(
                "Generator",
                "Cores used by the busiest process of the load generator. Near one core, it measures itself instead of "
                "the server: add workers.",
                CORES,
                metric(f"max({cores()})", "busiest"),
                width=5,
                thresholds=thresholds((None, "green"), (0.8, "red")),
            ),
        ),
    )


def runs() -> Row:
    """Return the row with the runs."""
    return Row(
        "Runs",
        (
            timeline(
                "Runs over time",
                "When each run had users. Also annotated on the graphs; on other dashboards, by a toggle.",
                metric(RUNNING, "{{run_id}} ({{shape}})"),
                colors=thresholds((None, "blue")),
                width=14,
            ),
            table(
                "Requests by run",
                "Requests of each run within the time range.",
                "short",
                instant(
                    f"sum by (run_id, shape) (increase(locust_requests_total{{{RUN}}}[$__range]))",
                    "{{run_id}}",
                    table=True,
                ),
                columns={"run_id": "Run", "shape": "Shape", "Value": "Requests"},
                sort="Run",
                width=10,
                height=7,
            ),
        ),
    )


def load() -> Row:
    """Return the row with the load on the server."""
    return Row(
        "Load",
        (
            lines(
                "Users by kind",
                "Active users of each kind: keepers, browsers, breeders, and persons.",
                "short",
                metric(f"sum by (user_kind) (locust_users{{{RUN}}})", "{{user_kind}}"),
                width=8,
                stacked=True,
            ),
            lines(
                "Requests by route",
                "Requests per second, one line for each method and route.",
                "reqps",
                metric(rate("locust_requests_total", by="method, route"), "{{method}} {{route}}"),
                width=8,
            ),
            lines(
                "The server's view",
                "Requests per second measured by the server: those marked as synthetic, and all others.",
                "reqps",
                metric(
                    'sum(rate(mythical_request_times_count{user_agent_synthetic_type!=""}[$__rate_interval]))',
                    "synthetic load",
                ),
                metric(
                    'sum(rate(mythical_request_times_count{user_agent_synthetic_type=""}[$__rate_interval]))',
                    "everyone else",
                ),
                width=8,
                stacked=True,
            ),
        ),
    )


def responses() -> Row:
    """Return the row with the results."""
    return Row(
        "Responses",
        (
            lines(
                "Duration",
                "Request durations measured by the users. Each point is one request and links to its trace.",
                "s",
                metric(quantile("0.5"), "median"),
                metric(quantile("0.95"), "p95", exemplars=True),
                metric(quantile("0.99"), "p99"),
                links=[explore("Traces of rounds", ROUNDS)],
            ),
            lines(
                "Responses by status",
                "Responses per second, by status.",
                "reqps",
                metric(rate("locust_requests_total", by="status"), "{{status}}"),
                overrides=[override("0", displayName="no answer")],
            ),
            lines(
                "Checks passed, by check",
                "The share of each check that passed. An injected fault is not a failed check.",
                "percentunit",
                metric(share_of_checks(by="check"), "{{check}}"),
                max=1,
                min=None,
            ),
            lines(
                "Failures by reason",
                "Failures per second: a wrong status, too slow, not a list of names, or an injected fault.",
                "reqps",
                metric(rate("locust_failures_total", by="reason"), "{{reason}}"),
            ),
        ),
    )


def cores() -> str:
    """Return the cores that each process of the load generator uses."""
    return f"sum by (instance) (rate(process_cpu_time_seconds_total{{{GENERATOR}}}[$__rate_interval]))"


def generator() -> Row:
    """Return the row with the state of the load generator."""
    return Row(
        "The generator",
        (
            lines(
                "CPU by process",
                "Cores that each process of the load generator uses. A process uses at most one.",
                CORES,
                metric(cores(), "{{instance}}"),
                width=8,
            ),
            lines(
                "Memory by process",
                "Physical memory of each process of the load generator.",
                "bytes",
                metric(f"sum by (instance) (process_memory_usage_bytes{{{GENERATOR}}})", "{{instance}}"),
                width=8,
            ),
            table(
                "Latest rounds",
                "Traces that start at a user.",
                "short",
                ROUNDS,
                columns={"Trace ID": "Trace ID", "Name": "Round", "Duration": "Duration"},
                overrides=[override("Trace ID", custom__width=130), override("Duration", custom__width=110)],
                width=8,
                height=8,
            ),
        ),
    )


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "locust",
        "mythical-locust",
        "Locust",
        "Load runs, users, their results, and whether the load generator kept up.",
        (now(), runs(), load(), responses(), generator()),
        (QueryVariable("run", "Run", "locust_users", "run_id"),),
        about_load=True,
    )
