"""A dashboard: rows of panels, the variables above them, and the annotations on every graph."""

import json
from dataclasses import dataclass

from grafana.source.panels import Panel, Text
from grafana.source.queries import MIMIR, SCRAPED, Json

COLUMNS = 24
# Dashboards list each other by this tag; workshops written for the original search for the same one.
TAG = "intro-to-mlt"
# The value of "All" in a query. A list of all values would miss later ones, and series without the label.
EVERYTHING = ".*"


@dataclass(frozen=True)
class Annotation:
    """An annotation while a query has values; `title` and `text` are templates such as {{alertname}}."""

    name: str
    expression: str
    title: str
    text: str
    color: str

    def as_json(self, *, shown: bool = True) -> Json:
        """Return the annotation as a dashboard holds it; a toggle above the panels shows or hides it."""
        return {
            "name": self.name,
            "datasource": MIMIR.as_json(),
            "enable": shown,
            "hide": False,
            "iconColor": self.color,
            "target": {"refId": "Anno", "expr": self.expression, "interval": SCRAPED, "legendFormat": self.title},
            "titleFormat": self.title,
            "textFormat": self.text,
            "tagKeys": "",
            "useValueForTime": False,
        }


# Grafana joins the points of a series to one region. Only alerts that page are shown, because they need an explanation.
ALERTS = Annotation(
    "Alerts", 'max by (alertname) (ALERTS{alertstate="firing",severity="page"})', "{{alertname}}", "fires", "red"
)
# A fault that is injected blind has the name "unnamed".
FAULTS = Annotation(
    "Injected faults",
    # Without the short range, the series would be shown for a minute after the fault ends.
    "max by (fault) (last_over_time(mythical_fault_strength[20s]))",
    "{{fault}}",
    "an injected fault is active",
    "purple",
)
# A run is one region, from its first users to its last.
RUNNING = "sum by (run_id, shape) (locust_users) > 0"
RUNS = Annotation("Load runs", RUNNING, "{{run_id}}", "load with shape {{shape}}", "blue")


@dataclass(frozen=True)
class QueryVariable:
    """One or several values of a label in Mimir; by default all, or the value in `first`."""

    name: str
    label: str
    metric: str
    of: str
    many: bool = True
    first: str = ""

    def as_json(self) -> Json:
        """Return the variable as a dashboard holds it."""
        expression = f"label_values({self.metric}, {self.of})"
        chosen: Json = {"current": {"text": ["All"], "value": ["$__all"]}, "allValue": EVERYTHING} if self.many else {}
        if self.first:
            chosen = {"current": {"text": self.first, "value": self.first}}
        return {
            "type": "query",
            "name": self.name,
            "label": self.label,
            "datasource": MIMIR.as_json(),
            "query": {"qryType": 1, "query": expression, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
            # Refresh on every change of the time range, because new values may exist.
            "refresh": 2,
            "sort": 1,
            "includeAll": self.many,
            "multi": self.many,
            **chosen,
        }


@dataclass(frozen=True)
class TextVariable:
    """A text that the user types, or that a link sets."""

    name: str
    label: str

    def as_json(self) -> Json:
        """Return the variable as a dashboard holds it."""
        return {"type": "textbox", "name": self.name, "label": self.label, "query": ""}


@dataclass(frozen=True)
class CustomVariable:
    """One of several fixed values; the first is the default."""

    name: str
    label: str
    values: tuple[tuple[str, str], ...]

    def as_json(self) -> Json:
        """Return the variable as a dashboard holds it; `values` are names and what each stands for."""
        options = [{"text": text, "value": value, "selected": not at} for at, (text, value) in enumerate(self.values)]
        return {
            "type": "custom",
            "name": self.name,
            "label": self.label,
            "query": ", ".join(f"{text} : {value}" for text, value in self.values),
            "options": options,
            "current": options[0],
            "includeAll": False,
            "multi": False,
        }


Variable = QueryVariable | TextVariable | CustomVariable


@dataclass(frozen=True)
class Row:
    """Panels under a heading. Each is placed at the highest free position, leftmost first.

    The columns have to end at the same height, because Grafana shows gaps. Panels of a collapsed row send no queries
    until the row is opened.
    """

    title: str
    panels: tuple[Panel | Text, ...]
    collapsed: bool = False


@dataclass(frozen=True)
class Board:
    """A dashboard. `name` is that of its file, without .json; `since` and `refresh` are durations such as 15m."""

    name: str
    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...] = ()
    since: str = "15m"
    refresh: str = "10s"
    # A load run lasts all day, so its annotation would cover graphs that are not about load.
    about_load: bool = False

    def as_json(self) -> Json:
        """Return the dashboard as Grafana reads it."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": [TAG, "mythical-beasts"],
            "schemaVersion": 41,
            "editable": True,
            # One crosshair in all panels, to compare events at the same time.
            "graphTooltip": 1,
            "refresh": self.refresh,
            "time": {"from": f"now-{self.since}", "to": "now"},
            "timezone": "browser",
            "annotations": {"list": [RUNS.as_json(shown=self.about_load), FAULTS.as_json(), ALERTS.as_json()]},
            "links": [
                {
                    "type": "dashboards",
                    "title": "Dashboards",
                    "tags": [TAG],
                    "asDropdown": True,
                    "includeVars": False,
                    "keepTime": True,
                    "icon": "external link",
                    "tooltip": "",
                    "targetBlank": False,
                }
            ],
            "templating": {"list": [variable.as_json() for variable in self.variables]},
            "panels": layout(self.rows),
        }

    def text(self) -> str:
        """Return the dashboard as its file holds it."""
        return json.dumps(self.as_json(), indent=2, ensure_ascii=False) + "\n"


def layout(rows: tuple[Row, ...]) -> list[Json]:
    """Return the headings and the panels, each with a number and a place on the grid."""
    found: list[Json] = []
    number, y = 1, 0
    for row in rows:
        above, depths = heading(row.title, number, y), [y + 1] * COLUMNS
        number += 1
        below = found if not row.collapsed else above["panels"]
        found.append(above)
        for panel in row.panels:
            x, top = free_position(panel.width, depths)
            below.append(panel.as_json(number, x, top))
            depths[x : x + panel.width] = [top + panel.height] * panel.width
            number += 1
        above["collapsed"] = row.collapsed
        y = y + 1 if row.collapsed else max(depths)
    return found


def free_position(width: int, depths: list[int]) -> tuple[int, int]:
    """Return where a panel goes, given how far down each column is filled."""
    tops = [max(depths[x : x + width]) for x in range(COLUMNS - width + 1)]
    return tops.index(min(tops)), min(tops)


def heading(title: str, number: int, y: int) -> Json:
    """Return the heading of a row."""
    place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
    return {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
