"""Read the queries of docs/components.md and the links that open them in Explore."""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from grafana.source.links import explore_path
from grafana.source.queries import SCRAPED, Query, log_lines, metric, profile, traces
from tests.seams.compose_files import dotenv
from tests.seams.tree import ROOT, sections

PAGE = (ROOT / "docs/components.md").read_text(encoding="utf-8")
CPU = "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
LANGUAGES: dict[str, Callable[[str], Query]] = {
    "PromQL": lambda text: metric(text, "", every=SCRAPED, exemplars="_bucket" in text),
    "LogQL": log_lines,
    "TraceQL": traces,
    "CPU profile": lambda text: profile(CPU, text),
}
LINE = re.compile(r"^- Query, ([\w ]+): `([^`]+)`\s+\(\[open in Explore\]\(([^)\s]+)\)\)$", re.MULTILINE)


class ExploreLink(NamedTuple):
    """A query of the page, the heading above it, and the address that opens it."""

    component: str
    language: str
    text: str
    address: str

    def __str__(self) -> str:
        return self.component

    @property
    def query(self) -> Query:
        """Return the query in Grafana's form."""
        return LANGUAGES[self.language](self.text)

    @property
    def expected_address(self) -> str:
        """Return the address of the query on the default port, over the last 15 minutes."""
        return f"http://127.0.0.1:{dotenv()['GRAFANA_PORT']}{explore_path(self.query, 'now-15m', 'now')}"


def explore_links() -> Iterator[ExploreLink]:
    """Yield each query of the page with its link."""
    for heading, section in sections(PAGE):
        for language, text, address in LINE.findall(section):
            yield ExploreLink(heading, language, text, address)
