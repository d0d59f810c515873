"""SLO: what is promised, how much of the error budget is left, how fast it burns, and which alerts fire."""

from grafana.source.board import Board, Row
from grafana.source.links import dashboard
from grafana.source.panels import lines, override, stat, table, thresholds, timeline
from grafana.source.queries import FETCHED, Query, figure, metric
from grafana.source.variables import Choice
from mimir.source.objectives import OBJECTIVES, Objective
from mimir.source.rules import BUDGET, BURN, LEFT, LIMIT, RATIO, alerts

UID = "mythical-slo"
FIRING = 'ALERTS{alertstate="firing"}'
# Nothing for each alert, for as long as there are rules: Mimir keeps no series of an alert that does not fire.
QUIET = " or ".join(f'label_replace(0 * max({BUDGET}), "alertname", "{name}", "", "")' for name in alerts())
RUNBOOKS = dashboard("Runbooks", "mythical-runbooks")
# Where to look further, by objective.
MORE = {
    "api-availability": dashboard("Which endpoints fail", "9UKWKDqVy"),
    "api-latency": dashboard("Rate, errors, duration", "ed4f4709-4d3b-48fd-a311-a036b85dbd5b"),
    "recording-freshness": dashboard("Recorder and RabbitMQ", "mythical-recorder"),
}
DASHED = {"custom__lineStyle": {"fill": "dash"}, "custom__fillOpacity": 0}


def line(expression: str, legend: str) -> Query:
    """Return what rules have recorded, at the pace at which they are evaluated."""
    return metric(expression, legend, every=FETCHED)


def now() -> Row:
    """The state at a glance."""
    return Row(
        "Now",
        (
            stat(
                "Error budget left",
                "How much more may fail within the period. Below nothing, a promise is broken.",
                "percentunit",
                line(LEFT, "{{slo}}"),
                width=10,
                height=6,
                decimals=0,
                thresholds=thresholds((None, "red"), (0, "orange"), (0.25, "green")),
            ),
            stat(
                "Firing",
                "How many; which, is in the table. Each has a runbook.",
                "short",
                line(f"count({FIRING}) or vector(0)", "firing"),
                width=3,
                height=6,
                graph=False,
                links=[RUNBOOKS],
                thresholds=thresholds((None, "green"), (1, "red")),
            ),
            table(
                "Firing now",
                "Alerts that fire, how urgent they are, and what they speak of.",
                "short",
                figure(FIRING, "{{alertname}}", every=FETCHED, table=True),
                columns={
                    "alertname": "Alert",
                    "severity": "Severity",
                    "slo": "Objective",
                    "service": "Service",
                    "signal": "Signal",
                },
                overrides=[override("Alert", custom__width=250), override("Severity", custom__width=90)],
                width=11,
                height=6,
                links=[RUNBOOKS],
                empty="None fires.",
            ),
            timeline(
                "Alerts over time",
                "From when to when each alert fired: red. While it is green, its rule was evaluated and all was well.",
                line(f"max by (alertname) ({FIRING}) or {QUIET}", "{{alertname}}"),
                colors=thresholds((None, "green"), (1, "red")),
                height=10,
            ),
        ),
    )


def promise(one: Objective) -> Row:
    """One objective: what was kept of it, and how fast its budget burns."""
    slo = f'slo="{one.name}"'
    return Row(
        one.title,
        (
            lines(
                f"{one.title}: good events",
                f"The share of {one.sentence}, over the chosen window, and the share that is promised.",
                "percentunit",
                line(f'1 - {RATIO}{{{slo},window="$window"}}', "{{window}}"),
                line(f"1 - {BUDGET}{{{slo}}}", "promised"),
                width=8,
                links=[MORE[one.name]],
                overrides=[override("promised", **DASHED)],
                max=1,
                min=None,
            ),
            lines(
                f"{one.title}: burn rate",
                "How many times faster than allowed the budget burns, in the long windows of the alerts, and above "
                "what they tell. At 1 the budget lasts exactly for the period.",
                "short",
                line(f"{BURN}{{{slo}}} and on (slo, window) {LIMIT}{{{slo}}}", "{{window}}"),
                line(f"{LIMIT}{{{slo}}}", "{{severity}} above, {{window}}"),
                width=8,
                links=[RUNBOOKS],
                overrides=[
                    {
                        "matcher": {"id": "byFrameRefID", "options": "B"},
                        "properties": override("", **DASHED)["properties"],
                    }
                ],
            ),
            lines(
                f"{one.title}: budget left",
                "How much more might fail, at each moment. It comes back as failures get older than the period.",
                "percentunit",
                line(f"{LEFT}{{{slo}}}", "left"),
                width=8,
                min=None,
                max=1,
            ),
        ),
    )


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "slo",
        UID,
        "SLO",
        "What is promised, how much of the error budget is left, how fast it burns, and which alerts fire.",
        (now(), *(promise(one) for one in OBJECTIVES)),
        (Choice("window", "Window", RATIO, "window", many=False),),
        since="1h",
    )
