"""SLO: objectives, remaining error budget, burn rate, and firing alerts."""

from grafana.source.board import Board, QueryVariable, Row
from grafana.source.links import dashboard
from grafana.source.panels import lines, override, stat, table, thresholds, timeline
from grafana.source.queries import SCRAPED, Query, instant, metric
from mimir.source.objectives import OBJECTIVES, Objective
from mimir.source.rules import BUDGET, BURN, LEFT, LIMIT, RATIO, alerts

UID = "mythical-slo"
FIRING = 'ALERTS{alertstate="firing"}'
# 0 for each alert while its rule exists: Mimir has no series of an alert that does not fire.
NOT_FIRING = " or ".join(f'label_replace(0 * max({BUDGET}), "alertname", "{name}", "", "")' for name in alerts())
RUNBOOKS = dashboard("Runbooks", "mythical-runbooks")
# The dashboard with details, by SLO.
MORE = {
    "api-availability": dashboard("Which endpoints fail", "9UKWKDqVy"),
    "api-latency": dashboard("Rate, errors, duration", "ed4f4709-4d3b-48fd-a311-a036b85dbd5b"),
    "recording-freshness": dashboard("Recorder and RabbitMQ", "mythical-recorder"),
}
DASHED = {"custom__lineStyle": {"fill": "dash"}, "custom__fillOpacity": 0}


def line(expression: str, legend: str) -> Query:
    """Return a query for a recorded series, at the evaluation interval of the rules."""
    return metric(expression, legend, every=SCRAPED)


def now() -> Row:
    """Return the row with the state at a glance."""
    return Row(
        "Now",
        (
            stat(
                "Error budget left",
                "The share of the budget left in the period. Below zero, the SLO is violated.",
                "percentunit",
                line(LEFT, "{{slo}}"),
                width=10,
                height=6,
                decimals=0,
                thresholds=thresholds((None, "red"), (0, "orange"), (0.25, "green")),
            ),
            stat(
                "Firing",
                "Number of firing alerts; the table lists them. Each has a runbook.",
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
                "Firing alerts, their severity, and what they are about.",
                "short",
                instant(FIRING, "{{alertname}}", every=SCRAPED, table=True),
                columns={
                    "alertname": "Alert",
                    "severity": "Severity",
                    "slo": "SLO",
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
                "Red: the alert fired. Green: its rule was evaluated and the alert did not fire.",
                line(f"max by (alertname) ({FIRING}) or {NOT_FIRING}", "{{alertname}}"),
                colors=thresholds((None, "green"), (1, "red")),
                height=10,
            ),
        ),
    )


def objective_row(one: Objective) -> Row:
    """Return the row of an SLO: good events, and the burn rate of its budget."""
    slo = f'slo="{one.name}"'
    return Row(
        one.title,
        (
            lines(
                f"{one.title}: good events",
                f"SLO: {one.sentence}. The share of good events over the selected window, and the target.",
                "percentunit",
                line(f'1 - {RATIO}{{{slo},window="$window"}}', "{{window}}"),
                line(f"1 - {BUDGET}{{{slo}}}", "target"),
                width=8,
                links=[MORE[one.name]],
                overrides=[override("target", **DASHED)],
                max=1,
                min=None,
            ),
            lines(
                f"{one.title}: burn rate",
                "Error budget burn rate in the long windows of the alerts, and the thresholds of the alerts. At 1, the "
                "budget lasts exactly for the period.",
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
                "The share of the budget left over time. It recovers as failures leave the period.",
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
        "Objectives, remaining error budget, burn rate, and firing alerts.",
        (now(), *(objective_row(one) for one in OBJECTIVES)),
        (QueryVariable("window", "Window", RATIO, "window", many=False),),
        since="1h",
    )
