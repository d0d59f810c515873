"""Links from a value on a panel to more about it."""

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from grafana.source.queries import Query

# ${...} is filled in by Grafana, but only while its braces are there to be seen.
PLACEHOLDER = re.compile(r"(\$\{[^}]+\})")


@dataclass(frozen=True)
class Link:
    """Where a click on a value leads."""

    title: str
    url: str
    new_tab: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the link as a dashboard holds it."""
        return {"title": self.title, "url": self.url, "targetBlank": self.new_tab}


def explore(title: str, query: Query) -> Link:
    """Return a link that opens Explore with this query, over the time that the dashboard shows."""
    pane = {
        "datasource": query.source.uid,
        "queries": [query.as_json("A")],
        "range": {"from": "${__from}", "to": "${__to}"},
    }
    panes = json.dumps({"m": pane}, separators=(",", ":"))
    parts = PLACEHOLDER.split(panes)
    encoded = "".join(part if PLACEHOLDER.fullmatch(part) else quote(part, safe="") for part in parts)
    return Link(title, f"/explore?schemaVersion=1&orgId=1&panes={encoded}", new_tab=True)


def dashboard(title: str, uid: str, *, panel: int = 0, **variables: str) -> Link:
    """Return a link to a dashboard, or to one panel of it, with these values for its variables, over the same time."""
    values = "".join(f"var-{name}={value}&" for name, value in variables.items())
    values += f"viewPanel=panel-{panel}&" if panel else ""
    return Link(title, f"/d/{uid}?{values}${{__url_time_range}}")
