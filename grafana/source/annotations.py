"""What is marked on every graph of a dashboard: moments that explain a curve."""

from dataclasses import dataclass

from grafana.source.queries import FETCHED, MIMIR, Json


@dataclass(frozen=True)
class Mark:
    """Marks while a query has values. `title` and `text` are templates such as {{alertname}}, as in a legend."""

    name: str
    expression: str
    title: str
    text: str
    color: str

    def as_json(self, *, shown: bool = True) -> Json:
        """Return the annotation as a dashboard holds it; it can be switched on and off above the panels."""
        return {
            "name": self.name,
            "datasource": MIMIR.as_json(),
            "enable": shown,
            "hide": False,
            "iconColor": self.color,
            "target": {"refId": "Anno", "expr": self.expression, "interval": FETCHED, "legendFormat": self.title},
            "titleFormat": self.title,
            "textFormat": self.text,
            "tagKeys": "",
            "useValueForTime": False,
        }


# Grafana joins the points of a series to one region; a page is what one looks for a reason for.
ALERTS = Mark(
    "Alerts", 'max by (alertname) (ALERTS{alertstate="firing",severity="page"})', "{{alertname}}", "fires", "red"
)
# One that is set blind tells the name "unnamed".
FAULTS = Mark(
    "Planted faults",
    # Its series ends with the fault, and would be shown for a minute more.
    "max by (fault) (last_over_time(mythical_fault_strength[20s]))",
    "{{fault}}",
    "a planted fault is on",
    "purple",
)
# A run is one region, from its first users to its last.
RUNNING = "sum by (run_id, shape) (locust_users) > 0"
RUNS = Mark("Runs of load", RUNNING, "{{run_id}}", "load in the shape {{shape}}", "blue")
