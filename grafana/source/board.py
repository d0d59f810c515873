"""A dashboard: rows of panels, and what is chosen above them."""

import json
from dataclasses import dataclass

from grafana.source.annotations import EVERYWHERE
from grafana.source.panels import Panel, Text
from grafana.source.queries import Json
from grafana.source.variables import Variable

COLUMNS = 24
# By this tag dashboards list each other; workshops written for the original look for the same one.
TAG = "intro-to-mlt"


@dataclass(frozen=True)
class Row:
    """Panels under a heading, filled in from left to right; what does not fit goes below."""

    title: str
    panels: tuple[Panel | Text, ...]


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

    def as_json(self) -> Json:
        """Return the dashboard as Grafana reads it."""
        return {
            "uid": self.uid,
            "title": self.title,
            "description": self.description,
            "tags": [TAG, "mythical-beasts"],
            "schemaVersion": 41,
            "editable": True,
            # One cross hair in all panels: what happened at the same time stands out.
            "graphTooltip": 1,
            "refresh": self.refresh,
            "time": {"from": f"now-{self.since}", "to": "now"},
            "timezone": "browser",
            "annotations": {"list": [mark.as_json() for mark in EVERYWHERE]},
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
            "panels": placed(self.rows),
        }

    def text(self) -> str:
        """Return the dashboard as its file holds it."""
        return json.dumps(self.as_json(), indent=2, ensure_ascii=False) + "\n"


def placed(rows: tuple[Row, ...]) -> list[Json]:
    """Return the headings and the panels, each with a number and a place on the grid."""
    found: list[Json] = []
    y = 0
    for row in rows:
        found.append(heading(row.title, len(found) + 1, y))
        x, y, bottom = 0, y + 1, y + 1
        for panel in row.panels:
            if x + panel.width > COLUMNS:
                x, y = 0, bottom
            found.append(panel.as_json(len(found) + 1, x, y))
            x, bottom = x + panel.width, max(bottom, y + panel.height)
        y = bottom
    return found


def heading(title: str, number: int, y: int) -> Json:
    """Return the heading of a row."""
    place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
    return {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
