"""The panel types of the dashboards."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from string import ascii_uppercase
from typing import Any

from grafana.source.links import Link
from grafana.source.queries import Json, Query

Step = tuple[float | None, str]


@dataclass(frozen=True)
class Panel:
    """One panel: title and description, queries, and visualization.

    `unit` is Grafana's id of a unit ("s", "reqps"); `width` is in columns of which a row has 24, `height` in rows of
    about 30 pixels.
    """

    kind: str
    title: str
    description: str
    queries: tuple[Query, ...]
    unit: str
    width: int
    height: int = 8
    options: Json = field(default_factory=dict)
    field_options: Json = field(default_factory=dict)
    overrides: tuple[Json, ...] = ()
    transformations: tuple[Json, ...] = ()
    links: tuple[Link, ...] = ()

    def as_json(self, number: int, x: int, y: int) -> Json:
        """Return the panel as a dashboard holds it, at a place on the grid."""
        defaults: Json = {"unit": self.unit, **self.field_options}
        if self.links:
            defaults["links"] = [link.as_json() for link in self.links]
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": self.queries[0].source.as_json(),
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "fieldConfig": {"defaults": defaults, "overrides": list(self.overrides)},
            "options": self.options,
            "targets": [query.as_json(letter) for query, letter in zip(self.queries, ascii_uppercase, strict=False)],
            "transformations": list(self.transformations),
        }


@dataclass(frozen=True)
class Text:
    """A panel without queries that shows Markdown."""

    title: str
    description: str
    content: str
    width: int
    height: int

    def as_json(self, number: int, x: int, y: int) -> Json:
        """Return the panel as a dashboard holds it, at a place on the grid."""
        return {
            "id": number,
            "type": "text",
            "title": self.title,
            "description": self.description,
            "gridPos": {"x": x, "y": y, "w": self.width, "h": self.height},
            "fieldConfig": {"defaults": {}, "overrides": []},
            "options": {"mode": "markdown", "content": self.content},
            "targets": [],
            "transformations": [],
        }


def thresholds(*steps: Step) -> Json:
    """Return colour thresholds; the first step has no value."""
    return {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in steps]}


def override(column: str, **properties: Any) -> Json:
    """Return an override for one column or line; `custom__width` stands for custom.width."""
    listed = [{"id": name.replace("__", "."), "value": value} for name, value in properties.items()]
    return {"matcher": {"id": "byName", "options": column}, "properties": listed}


def lines(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    width: int = 12,
    height: int = 8,
    stacked: bool = False,
    links: Sequence[Link] = (),
    overrides: Sequence[Json] = (),
    **field_options: Any,
) -> Panel:
    """Return a time series panel; its axis starts at 0 unless `min` is None."""
    custom: Json = {"lineWidth": 1, "fillOpacity": 10, "showPoints": "auto", "pointSize": 4}
    if stacked:
        custom |= {"stacking": {"mode": "normal", "group": "A"}, "fillOpacity": 40}
    shown: Json = {"custom": custom, "min": 0, **field_options}
    return Panel(
        "timeseries",
        title,
        description,
        queries,
        unit,
        width,
        height,
        options={
            "legend": {
                "showLegend": True,
                "displayMode": "table",
                "placement": "bottom",
                "calcs": ["lastNotNull", "max"],
            },
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        field_options={key: value for key, value in shown.items() if value is not None},
        links=tuple(links),
        overrides=tuple(overrides),
    )


def stat(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    width: int = 6,
    height: int = 4,
    links: Sequence[Link] = (),
    graph: bool = True,
    **field_options: Any,
) -> Panel:
    """Return a stat panel with the latest value, and its name if there are several."""
    return Panel(
        "stat",
        title,
        description,
        queries,
        unit,
        width,
        height,
        options={
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "auto",
            "wideLayout": True,
            "colorMode": "value",
            "graphMode": "area" if graph else "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "showPercentChange": False,
            "percentChangeColorMode": "standard",
        },
        field_options={"thresholds": thresholds((None, "green")), **field_options},
        links=tuple(links),
    )


def gauge(title: str, description: str, unit: str, *queries: Query, width: int, height: int, colors: Json) -> Panel:
    """Return a gauge from 0 to 1."""
    return Panel(
        "gauge",
        title,
        description,
        queries,
        unit,
        width,
        height,
        options={
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "showThresholdMarkers": True,
            "showThresholdLabels": False,
            "orientation": "auto",
            "sizing": "auto",
            "minVizWidth": 75,
            "minVizHeight": 75,
        },
        field_options={"min": 0, "max": 1, "thresholds": colors},
    )


def bars(title: str, description: str, unit: str, *queries: Query, width: int = 12, height: int = 8) -> Panel:
    """Return horizontal bars of the latest values, with the names on the left."""
    return Panel(
        "bargauge",
        title,
        description,
        queries,
        unit,
        width,
        height,
        options={
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "orientation": "horizontal",
            "displayMode": "gradient",
            "valueMode": "color",
            "namePlacement": "left",
            "showUnfilled": True,
            "sizing": "auto",
            "minVizWidth": 8,
            "minVizHeight": 16,
            "maxVizHeight": 300,
            "legend": {"showLegend": False, "displayMode": "list", "placement": "bottom", "calcs": []},
        },
        field_options={"min": 0, "thresholds": thresholds((None, "blue"))},
    )


def table(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    columns: dict[str, str] | None = None,
    sort: str = "",
    width: int = 12,
    height: int = 9,
    links: Sequence[Link] = (),
    overrides: Sequence[Json] = (),
    empty: str = "",
) -> Panel:
    """Return a table; `columns` maps the columns to show, in order, to their titles.

    `empty` is the text for a table without rows, if that is a valid result.
    """
    transformations: list[Json] = []
    if columns:
        # Grafana names the column of values "Value", or "Value #A" if there are other queries.
        if "Value" in columns:
            columns = columns | {"Value #A": columns["Value"]}
        transformations = [
            {"id": "filterFieldsByName", "options": {"include": {"names": list(columns)}}},
            {
                "id": "organize",
                "options": {
                    "indexByName": {name: place for place, name in enumerate(columns)},
                    "renameByName": columns,
                },
            },
        ]
    return Panel(
        "table",
        title,
        description,
        queries,
        unit,
        width,
        height,
        options={
            "frameIndex": 0,
            "showHeader": True,
            "cellHeight": "sm",
            "sortBy": [{"displayName": sort, "desc": True}] if sort else [],
        },
        field_options={
            "custom": {"align": "auto", "filterable": True, "inspect": False},
            **({"noValue": empty} if empty else {}),
        },
        transformations=tuple(transformations),
        links=tuple(links),
        overrides=tuple(overrides),
    )


def logs(title: str, description: str, query: Query, *, width: int = 24, height: int = 9) -> Panel:
    """Return a panel of log lines, newest first; lines with a trace id have a button that opens the trace."""
    options = {
        "showTime": True,
        "showLabels": False,
        "showCommonLabels": False,
        "showLogContextToggle": False,
        "wrapLogMessage": True,
        "prettifyLogMessage": False,
        "enableLogDetails": True,
        "sortOrder": "Descending",
        "dedupStrategy": "none",
    }
    return Panel("logs", title, description, (query,), "short", width, height, options=options)


def trace(title: str, description: str, query: Query, *, height: int = 14) -> Panel:
    """Return a panel of one trace with its spans."""
    return Panel("traces", title, description, (query,), "ns", 24, height)


def flame_graph(title: str, description: str, query: Query, *, width: int = 24, height: int = 16) -> Panel:
    """Return a flame graph of merged stacks."""
    return Panel("flamegraph", title, description, (query,), "ns", width, height)


def node_graph(title: str, description: str, query: Query, *, width: int = 12, height: int = 12) -> Panel:
    """Return a node graph of services and the calls between them."""
    return Panel("nodeGraph", title, description, (query,), "short", width, height)


def timeline(title: str, description: str, *queries: Query, colors: Json, width: int = 24, height: int = 7) -> Panel:
    """Return a state timeline: a bar for each series while it has a value, coloured by the value."""
    return Panel(
        "state-timeline",
        title,
        description,
        queries,
        "short",
        width,
        height,
        options={
            "mergeValues": True,
            "showValue": "never",
            "alignValue": "left",
            "rowHeight": 0.8,
            "legend": {"showLegend": False, "displayMode": "list", "placement": "bottom", "calcs": []},
            "tooltip": {"mode": "single", "sort": "none"},
        },
        field_options={
            "custom": {"fillOpacity": 80, "lineWidth": 0, "spanNulls": False},
            "color": {"mode": "thresholds"},
            "thresholds": colors,
        },
    )


def text(title: str, description: str, content: str) -> Text:
    """Return a Markdown panel that is high enough for its text, so that no one has to scroll while an alert fires."""
    lines_of_it = content.splitlines()
    # An estimate of Grafana's layout: headings and table rows are higher than other lines.
    taller = sum(line.startswith(("## ", "|")) for line in lines_of_it)
    return Text(title, description, content, 24, 5 + (len(lines_of_it) + taller) // 3)
