"""The time scales of the SLOs: the length of the period, and the windows of the alerts.

The scheme is that of multiple windows and burn rates: Google, The Site Reliability Workbook, chapter 5, "Alerting on
SLOs" (https://sre.google/workbook/alerting-on-slos/), of which `production` has the recommended values (table 5-8).
A burn rate of 1 uses up the budget exactly within the period. An alert fires when a share of the budget was used within
a long window and is still being used in a short one, so it also clears soon.
"""

from dataclasses import dataclass

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(duration: str) -> int:
    """Return the seconds of a Prometheus duration with one unit, such as 30s, 5m or 3d."""
    return int(duration[:-1]) * SECONDS[duration[-1]]


@dataclass(frozen=True)
class Window:
    """A pair of windows, and the share of the budget used within the long one at which the alert fires."""

    severity: str
    budget: float
    long: str
    short: str


@dataclass(frozen=True)
class Scale:
    """A period with its windows; `interval` is how often rules are evaluated.

    `cause` is the window of the alerts on causes, and `silence` how long telemetry has to be missing.
    """

    name: str
    period: str
    interval: str
    windows: tuple[Window, ...]
    cause: str
    silence: str

    def burn_rate(self, window: Window) -> float:
        """Return the burn rate at which a window's share of the budget is used at its end."""
        return round(window.budget * seconds(self.period) / seconds(window.long), 3)

    def lengths(self) -> list[str]:
        """Return every window that is computed, from the shortest to the period."""
        found = {length for window in self.windows for length in (window.long, window.short)} | {self.period}
        return sorted(found, key=seconds)


# Sixty minutes in place of thirty days: the cost of a fault shows within minutes. Samples arrive every 5 s, so a window
# shorter than 30 s would hold too few; and because each SLO leaves a budget of 10 %, no burn rate can exceed 10.
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
