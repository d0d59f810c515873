"""Links from a value on a panel to details."""

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from grafana.source.queries import Query

# Grafana replaces ${...}, but only if the braces are not percent-encoded.
PLACEHOLDER = re.compile(r"(\$\{[^}]+\})")


@dataclass(frozen=True)
class Link:
    """The target of a click on a value."""

    title: str
    url: str
    new_tab: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the link as a dashboard holds it."""
        return {"title": self.title, "url": self.url, "targetBlank": self.new_tab}


def explore(title: str, query: Query) -> Link:
    """Return a link that opens Explore with this query, over the time range of the dashboard."""
    return Link(title, explore_path(query, "${__from}", "${__to}"), new_tab=True)


def explore_path(query: Query, start: str, end: str) -> str:
    """Return the path of a query in Explore, from `start` to `end`, such as now-15m and now."""
    pane = {"datasource": query.source.uid, "queries": [query.as_json("A")], "range": {"from": start, "to": end}}
    panes = json.dumps({"m": pane}, separators=(",", ":"))
    parts = PLACEHOLDER.split(panes)
    encoded = "".join(part if PLACEHOLDER.fullmatch(part) else quote(part, safe="") for part in parts)
    return f"/explore?schemaVersion=1&orgId=1&panes={encoded}"


def dashboard(title: str, uid: str, *, panel: int = 0, **variables: str) -> Link:
    """Return a link to a dashboard or to one of its panels, with values for its variables, over the same time range."""
    values = "".join(f"var-{name}={value}&" for name, value in variables.items())
    values += f"viewPanel=panel-{panel}&" if panel else ""
    return Link(title, f"/d/{uid}?{values}${{__url_time_range}}")
