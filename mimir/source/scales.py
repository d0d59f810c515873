"""The scales on which budgets are counted: how long a period is, and which windows watch it.

The scheme is that of multiple windows and burn rates: Google, The Site Reliability Workbook, chapter 5, "Alerting on
SLOs" (https://sre.google/workbook/alerting-on-slos/), of which `production` has the recommended figures (table 5-8).
A burn rate of 1 uses up the budget exactly within the period. An alert fires when a share of the budget was burnt
within a long window and is still being burnt in a short one, by which it also clears soon.
"""

from dataclasses import dataclass

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(duration: str) -> int:
    """Give the seconds of a duration of Prometheus that has one unit, such as 30s, 5m or 3d."""
    return int(duration[:-1]) * SECONDS[duration[-1]]


@dataclass(frozen=True)
class Window:
    """A pair of windows, and how much of the budget may be burnt within the long one before somebody is told."""

    severity: str
    budget: float
    long: str
    short: str


@dataclass(frozen=True)
class Scale:
    """A period with its windows; `interval` is how often rules are evaluated.

    `cause` is the window in which causes are looked for, and `silence` how long something has to be missing.
    """

    name: str
    period: str
    interval: str
    windows: tuple[Window, ...]
    cause: str
    silence: str

    def burn_rate(self, window: Window) -> float:
        """Give the burn rate at which a window's share of the budget is gone at its end."""
        return round(window.budget * seconds(self.period) / seconds(window.long), 3)

    def lengths(self) -> list[str]:
        """Give every window that is computed, the shortest first and the period last."""
        found = {length for window in self.windows for length in (window.long, window.short)} | {self.period}
        return sorted(found, key=seconds)


# Sixty minutes in place of thirty days: what a fault costs is seen within minutes. Values come every 5 s, so a shorter
# window than 30 s would hold too few of them; and as each objective leaves a budget of 10 %, no burn rate can be
# above 10.
WORKSHOP = Scale(
    "workshop",
    period="1h",
    interval="10s",
    windows=(
        Window("page", 0.1, "2m", "30s"),
        Window("page", 0.2, "6m", "1m"),
        Window("ticket", 0.25, "15m", "3m"),
    ),
    cause="1m",
    silence="90s",
)
PRODUCTION = Scale(
    "production",
    period="30d",
    interval="30s",
    windows=(
        Window("page", 0.02, "1h", "5m"),
        Window("page", 0.05, "6h", "30m"),
        Window("ticket", 0.1, "3d", "6h"),
    ),
    cause="10m",
    silence="5m",
)
SCALES = (WORKSHOP, PRODUCTION)
