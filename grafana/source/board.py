"""A dashboard: rows of panels, and what is chosen above them."""

import json
from dataclasses import dataclass

from grafana.source.annotations import ALERTS, FAULTS, RUNS
from grafana.source.panels import Panel, Text
from grafana.source.queries import Json
from grafana.source.variables import Variable

COLUMNS = 24
# By this tag dashboards list each other; workshops written for the original look for the same one.
TAG = "intro-to-mlt"


@dataclass(frozen=True)
class Row:
    """Panels under a heading. Each is put where there is room highest up, and of such places into the leftmost.

    They have to end at the same height: Grafana shows a hole as a hole. Those of a row that is collapsed are asked
    nothing until somebody opens it.
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
    # A run of load goes on all day: on graphs that are not about load its mark is a veil over everything.
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
            # One cross hair in all panels: what happened at the same time stands out.
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
            "panels": placed(self.rows),
        }

    def text(self) -> str:
        """Return the dashboard as its file holds it."""
        return json.dumps(self.as_json(), indent=2, ensure_ascii=False) + "\n"


def placed(rows: tuple[Row, ...]) -> list[Json]:
    """Return the headings and the panels, each with a number and a place on the grid."""
    found: list[Json] = []
    number, y = 1, 0
    for row in rows:
        above, depths = heading(row.title, number, y), [y + 1] * COLUMNS
        number += 1
        below = found if not row.collapsed else above["panels"]
        found.append(above)
        for panel in row.panels:
            x, top = place(panel.width, depths)
            below.append(panel.as_json(number, x, top))
            depths[x : x + panel.width] = [top + panel.height] * panel.width
            number += 1
        above["collapsed"] = row.collapsed
        y = y + 1 if row.collapsed else max(depths)
    return found


def place(width: int, depths: list[int]) -> tuple[int, int]:
    """Return where a panel goes, given how far down each column is filled."""
    tops = [max(depths[x : x + width]) for x in range(COLUMNS - width + 1)]
    return tops.index(min(tops)), min(tops)


def heading(title: str, number: int, y: int) -> Json:
    """Return the heading of a row."""
    place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
    return {"id": number, "type": "row", "title": title, "collapsed": False, "gridPos": place, "panels": []}
