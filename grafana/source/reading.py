"""The dashboards as they are committed, read as data."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from grafana.source.queries import Json

FOLDER = Path(__file__).resolve().parents[1] / "dashboards"
# $name, ${name} and ${name:format}, but not what Grafana fills in itself, such as $__rate_interval.
CHOICE = re.compile(r"\$(?:\{(?P<braced>[A-Za-z]\w*)(?::\w+)?\}|(?P<plain>[A-Za-z]\w*))")


@dataclass(frozen=True)
class Asked:
    """A query, and the panel and dashboard that ask it."""

    board: str
    panel: str
    source: str
    query: Json

    def __str__(self) -> str:
        return f"{self.board}: {self.panel} {self.query['refId']}"

    @property
    def text(self) -> str:
        """What is asked, in the language of the source; a profile is asked for by its selector."""
        for name in ("expr", "query", "rawSql", "labelSelector", "queryType"):
            if name in self.query:
                return str(self.query[name])
        raise LookupError(f"{self}: no query in {sorted(self.query)}")


def boards() -> dict[str, Json]:
    """Return the dashboards by the names of their files, without .json."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}


def panels(board: Json) -> Iterator[Json]:
    """Return the panels of a dashboard, without the headings of rows."""
    for panel in board["panels"]:
        if panel["type"] != "row":
            yield panel
        yield from (inner for inner in panel.get("panels", []))


def asked() -> Iterator[Asked]:
    """Return every query of every dashboard."""
    for name, board in boards().items():
        for panel in panels(board):
            for query in panel["targets"]:
                yield Asked(name, panel["title"], query["datasource"]["uid"], query)


def choices() -> Iterator[tuple[str, str, str]]:
    """Return what readers choose from: the name of a dashboard, the series, and their label."""
    for name, board in boards().items():
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                series, label = (
                    variable["query"]["query"].removeprefix("label_values(").removesuffix(")").rsplit(", ", 1)
                )
                yield name, series, label


def filled(text: str, values: Mapping[str, str]) -> str:
    """Return a query with what the reader chooses filled in; a choice without a value is a LookupError."""

    def value(found: re.Match[str]) -> str:
        name = found["braced"] or found["plain"]
        if name not in values:
            raise LookupError(f"no value for ${name} in: {text}")
        return values[name]

    return CHOICE.sub(value, text)
