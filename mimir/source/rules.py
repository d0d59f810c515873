"""Groups of Prometheus rules from SLOs and causes, on one scale."""

from dataclasses import dataclass, field

from mimir.source.causes import Cause, causes
from mimir.source.objectives import OBJECTIVES, Objective
from mimir.source.scales import Scale, Window

RATIO, BURN, LIMIT = "slo:error_ratio:rate", "slo:burn_rate:ratio", "slo:burn_rate:limit"
BUDGET, LEFT = "slo:error_budget:ratio", "slo:error_budget:left"
# The runbooks' dashboard in the running suite; Mimir's external URL is that of Grafana.
RUNBOOK = "{{{{ $externalURL }}}}/d/mythical-runbooks/runbooks?viewPanel=panel-{panel}"


@dataclass(frozen=True)
class Rule:
    """A Prometheus recording rule (`record`) or alerting rule (`alert`)."""

    expression: str
    record: str = ""
    alert: str = ""
    hold: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """Rules that are evaluated in sequence."""

    name: str
    interval: str
    rules: tuple[Rule, ...]


def groups(scale: Scale) -> list[Group]:
    """Return all groups of a scale."""
    found = [Group(one.name, scale.interval, tuple(objective(one, scale))) for one in OBJECTIVES]
    return [*found, Group("causes", scale.interval, tuple(map(cause, causes(scale))))]


def alerts() -> list[str]:
    """Return the names of all alerts, in the order of their runbooks."""
    return [one.alert for one in OBJECTIVES] + [one.alert for one in causes(Scale("", "1h", "1m", (), "1m", "1m"))]


def objective(one: Objective, scale: Scale) -> list[Rule]:
    """Return the recording rules of an SLO, then its alerts, which use them."""
    slo = {"slo": one.name}
    budget = round(1 - one.shares[scale.name], 6)
    ratios = [
        Rule(f"{one.bad}\n/\n{one.every}".replace("$window", length), record=RATIO, labels=slo | {"window": length})
        for length in scale.lengths()
    ]
    burns = Rule(f'{RATIO}{{slo="{one.name}"}} / {budget}', record=BURN)
    left = Rule(f'1 - sum without (window) ({BURN}{{slo="{one.name}",window="{scale.period}"}})', record=LEFT)
    limits = [
        Rule(f"vector({scale.burn_rate(window):g})", record=LIMIT, labels=slo | window_labels(window))
        for window in scale.windows
    ]
    severities = dict.fromkeys(window.severity for window in scale.windows)
    return [
        Rule(f"vector({budget})", record=BUDGET, labels=slo),
        *ratios,
        burns,
        left,
        *limits,
        *(burn_alert(one, scale, severity) for severity in severities),
    ]


def window_labels(window: Window) -> dict[str, str]:
    """Return the labels of a pair of windows."""
    return {"severity": window.severity, "window": window.long}


def burn_alert(one: Objective, scale: Scale, severity: str) -> Rule:
    """Return the alert of one severity; it fires while any of its pairs burns in both windows.

    The label window is dropped: it would create a second alert for the same failure when another pair takes over.
    """
    windows = [window for window in scale.windows if window.severity == severity]
    pairs = [pair(one, window, scale.burn_rate(window)) for window in windows]
    shares = " or ".join(f"{window.budget:.0%} within {window.long}" for window in windows)
    return Rule(
        "max by (slo) (\n  " + "\n  or\n  ".join(pairs) + "\n)",
        alert=one.alert,
        labels={"severity": severity},
        annotations={
            "summary": f"{one.title}: error budget burn rate is {{{{ $value | humanize }}}}x.",
            "description": f"SLO: {one.shares[scale.name]:.1%} of {one.sentence}, over {scale.period}. "
            f"Fires when {shares} of the error budget is used.",
            "runbook_url": runbook(one.alert),
        },
    )


def pair(one: Objective, window: Window, limit: float) -> str:
    """Return PromQL that is true while both windows of a pair burn too fast; its value is that of the long window."""
    long, short = (
        f'{BURN}{{slo="{one.name}",window="{length}"}} > {limit:g}' for length in (window.long, window.short)
    )
    return f"({long} and ignoring (window) {short})"


def cause(one: Cause) -> Rule:
    """Return the alert on a cause."""
    annotations = {"summary": one.summary, "runbook_url": runbook(one.alert)}
    return Rule(
        one.expression, alert=one.alert, hold=one.hold, labels={"severity": one.severity}, annotations=annotations
    )


def runbook(alert: str) -> str:
    """Return the URL of an alert's runbook; the panels of that dashboard are numbered from 1, after a heading."""
    return RUNBOOK.format(panel=alerts().index(alert) + 2)
