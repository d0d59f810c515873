"""Read the committed dashboards as data."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from grafana.source.queries import Json

FOLDER = Path(__file__).resolve().parents[1] / "dashboards"
# $name, ${name} and ${name:format}, but not Grafana's own variables, such as $__rate_interval.
CHOICE = re.compile(r"\$(?:\{(?P<braced>[A-Za-z]\w*)(?::\w+)?\}|(?P<plain>[A-Za-z]\w*))")


@dataclass(frozen=True)
class PanelQuery:
    """A query, with its panel and dashboard."""

    board: str
    panel: str
    source: str
    query: Json

    def __str__(self) -> str:
        return f"{self.board}: {self.panel} {self.query['refId']}"

    @property
    def text(self) -> str:
        """The query in the language of its source; for a profile, its selector."""
        for name in ("expr", "query", "rawSql", "labelSelector", "queryType"):
            if name in self.query:
                return str(self.query[name])
        raise LookupError(f"{self}: no query in {sorted(self.query)}")


def boards() -> dict[str, Json]:
    """Return the dashboards by file name, without .json."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}


def panels(board: Json) -> Iterator[Json]:
    """Yield the panels of a dashboard, without the headings of rows."""
    for panel in board["panels"]:
        if panel["type"] != "row":
            yield panel
        yield from (inner for inner in panel.get("panels", []))


def panel_queries() -> Iterator[PanelQuery]:
    """Yield every query of every dashboard."""
    for name, board in boards().items():
        for panel in panels(board):
            for query in panel["targets"]:
                yield PanelQuery(name, panel["title"], query["datasource"]["uid"], query)


def query_variables() -> Iterator[tuple[str, str, str]]:
    """Yield the query variables: the name of the dashboard, the series, and the label."""
    for name, board in boards().items():
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                series, label = (
                    variable["query"]["query"].removeprefix("label_values(").removesuffix(")").rsplit(", ", 1)
                )
                yield name, series, label


def with_values(text: str, values: Mapping[str, str]) -> str:
    """Return a query with its variables replaced. Raises LookupError if a variable has no value."""

    def value(found: re.Match[str]) -> str:
        name = found["braced"] or found["plain"]
        if name not in values:
            raise LookupError(f"no value for ${name} in: {text}")
        return values[name]

    return CHOICE.sub(value, text)
