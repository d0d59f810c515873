"""Locust: which runs there were, how many users, what they met, and whether the generator itself kept up."""

from grafana.source.annotations import RUNNING
from grafana.source.board import Board, Row
from grafana.source.links import explore
from grafana.source.panels import lines, override, stat, table, thresholds, timeline
from grafana.source.queries import CORES, figure, metric, traces
from grafana.source.variables import Choice

RUN = 'run_id=~"$run"'
GENERATOR = 'service="mythical-loadtest"'
ROUNDS = traces('{ resource.service.name = "mythical-loadtest" && name =~ ".* round" }')


def rate(name: str, *, by: str = "", having: str = "") -> str:
    """Return how often something is counted per second, in the runs that are shown."""
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({name}{{{RUN}{having}}}[$__rate_interval]))"


def quantile(share: str) -> str:
    """Return how long this share of the requests took at most."""
    return f"histogram_quantile({share}, {rate('locust_request_duration_seconds_bucket', by='le')})"


def share_of_checks(*, by: str = "") -> str:
    """Return the share of checks that held."""
    held = rate("locust_checks_total", by=by, having=',result="held"')
    return f"{held} / {rate('locust_checks_total', by=by)}"


def now() -> Row:
    """The state at a glance."""
    return Row(
        "Now",
        (
            stat("Users", "Users at work.", "short", metric(f"sum(locust_users{{{RUN}}})", "users"), width=4),
            stat(
                "Requests",
                "Requests per second, as the users count them.",
                "reqps",
                metric(rate("locust_requests_total"), "requests"),
                width=5,
            ),
            stat(
                "p95",
                "How long 95 % of the requests took at most, as the users see it.",
                "s",
                metric(quantile("0.95"), "p95"),
                width=5,
                thresholds=thresholds((None, "green"), (0.3, "red")),
            ),
            stat(
                "Checks that held",
                "The share of checks of status, time and content that held.",
                "percentunit",
                metric(share_of_checks(), "held"),
                width=5,
                thresholds=thresholds((None, "red"), (0.98, "green")),
            ),
            stat(
                "Generator",
                "Cores that the busiest process of the load uses. Near one core it measures itself, not the server: "
                "add workers.",
                CORES,
                metric(f"max({cores()})", "busiest"),
                width=5,
                thresholds=thresholds((None, "green"), (0.8, "red")),
            ),
        ),
    )


def runs() -> Row:
    """Which runs there were."""
    return Row(
        "Runs",
        (
            timeline(
                "Runs over time",
                "From when to when each run had users. Also marked on the graphs; on other dashboards, at a switch.",
                metric(RUNNING, "{{run_id}} ({{shape}})"),
                colors=thresholds((None, "blue")),
                width=14,
            ),
            table(
                "Requests by run",
                "Requests of each run within the time that is shown.",
                "short",
                figure(
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
    """What is put on the server."""
    return Row(
        "Load",
        (
            lines(
                "Users by kind",
                "Keepers, browsers and breeders at work.",
                "short",
                metric(f"sum by (user_kind) (locust_users{{{RUN}}})", "{{user_kind}}"),
                width=8,
                stacked=True,
            ),
            lines(
                "Requests by address",
                "Requests per second, one line for each method and pattern of address.",
                "reqps",
                metric(rate("locust_requests_total", by="method, route"), "{{method}} {{route}}"),
                width=8,
            ),
            lines(
                "The server's view",
                "Requests per second that the server counts: those that are marked as synthetic, and all others.",
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


def answers() -> Row:
    """What came back."""
    return Row(
        "Answers",
        (
            lines(
                "Duration",
                "How long requests take as the users see it; each point is one request and leads to its trace.",
                "s",
                metric(quantile("0.5"), "median"),
                metric(quantile("0.95"), "p95", exemplars=True),
                metric(quantile("0.99"), "p99"),
                links=[explore("Traces of rounds", ROUNDS)],
            ),
            lines(
                "Answers by status",
                "Answers per second, by their status.",
                "reqps",
                metric(rate("locust_requests_total", by="status"), "{{status}}"),
                overrides=[override("0", displayName="no answer")],
            ),
            lines(
                "Checks that held, by check",
                "The share of each check that held. A planted fault is no check that failed.",
                "percentunit",
                metric(share_of_checks(by="check"), "{{check}}"),
                max=1,
                min=None,
            ),
            lines(
                "Failures by reason",
                "Failures per second: a wrong status, too slow, no list of names, or a fault that was planted.",
                "reqps",
                metric(rate("locust_failures_total", by="reason"), "{{reason}}"),
            ),
        ),
    )


def cores() -> str:
    """Return the cores that each process of the load uses."""
    return f"sum by (instance) (rate(process_cpu_time_seconds_total{{{GENERATOR}}}[$__rate_interval]))"


def generator() -> Row:
    """Whether the load is what it seems."""
    return Row(
        "The generator",
        (
            lines(
                "CPU by process",
                "Cores that each process of the load uses. A process has one at most.",
                CORES,
                metric(cores(), "{{instance}}"),
                width=8,
            ),
            lines(
                "Memory by process",
                "Physical memory of each process of the load.",
                "bytes",
                metric(f"sum by (instance) (process_memory_usage_bytes{{{GENERATOR}}})", "{{instance}}"),
                width=8,
            ),
            table(
                "Latest rounds",
                "Traces that begin at a user.",
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
        "Which runs of load there were, how many users, what they met, and whether the generator itself kept up.",
        (now(), runs(), load(), answers(), generator()),
        (Choice("run", "Run", "locust_users", "run_id"),),
        about_load=True,
    )
