"""What has arrived at the gateway, by its GET /api/summary, and what is missing."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from tools.query import QueryError, get_json
from tools.suite import HOPS, SERVICE_NAMES, SIGNALS

ASK_EVERY_S = 1.0
CELLS = tuple(product(SERVICE_NAMES, SIGNALS))
# A signal that has stopped arriving is broken too. Three arrive all the time; profiles are pushed every ten seconds,
# and not at all while a process sleeps.
FRESH_S = {"traces": 15.0, "metrics": 15.0, "logs": 15.0, "profiles": 60.0}

Key = tuple[str, str]  # service and signal of a cell, or both ends of a hop


@dataclass(frozen=True)
class Figures:
    """How many arrived, how many per second recently, and seconds since the last one."""

    count: int
    rate_per_s: float
    age_s: float


@dataclass(frozen=True)
class Summary:
    """The cells (service and signal) and hops (from → to) that were seen at least once."""

    cells: dict[Key, Figures] = field(default_factory=dict)
    hops: dict[Key, Figures] = field(default_factory=dict)

    def missing_cells(self) -> list[Key]:
        """Return each (service, signal) of the suite of which nothing arrived."""
        return [cell for cell in CELLS if cell not in self.cells]

    def stopped_cells(self) -> list[Key]:
        """Return each (service, signal) that arrived once but not recently."""
        return [cell for cell in CELLS if cell in self.cells and self.cells[cell].age_s > FRESH_S[cell[1]]]

    def missing_hops(self) -> list[Key]:
        """Return each (from, to) of the suite that no span showed."""
        return [hop for hop in HOPS if hop not in self.hops]

    def rate(self, signal: str) -> float:
        """Return the rate of `signal` over the three services, per second."""
        return sum(seen.rate_per_s for cell, seen in self.cells.items() if cell in CELLS and cell[1] == signal)


def parse(answer: dict[str, Any]) -> Summary:
    """Convert the gateway's answer to a Summary."""
    return Summary(
        cells=_figures(answer.get("cells", []), "service", "signal"),
        hops=_figures(answer.get("hops", []), "from", "to"),
    )


def fetch(page: str, timeout_s: float = 1.0) -> Summary | None:
    """Return the summary of the gateway whose page is at `page`; None if a gateway does not answer there in time."""
    try:
        return parse(get_json(f"{page}/api/summary", timeout_s=timeout_s))
    except (QueryError, AttributeError, KeyError, TypeError):
        return None


def _figures(rows: Sequence[dict[str, Any]], first: str, second: str) -> dict[Key, Figures]:
    return {
        (row[first], row[second]): Figures(row["count"], row["rate_per_s"], row["age_s"])
        for row in rows
        if row["count"]
    }


class Arrivals:
    """The latest summary, how long the run has lasted, and after how many seconds the first signals arrived."""

    def __init__(self, page: str) -> None:
        self.summary = Summary()
        self.first_after_s: float | None = None
        self._page = page
        self._begun = time.monotonic()
        self._ask_next = self._begun

    @property
    def running_s(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._begun

    def ask(self) -> bool:
        """Ask the gateway if a second has passed since the last time; return whether it has."""
        if time.monotonic() < self._ask_next:
            return False
        self._ask_next = time.monotonic() + ASK_EVERY_S
        self.summary = (fetch(self._page) if self._page else None) or self.summary
        if self.summary.cells and self.first_after_s is None:
            self.first_after_s = self.running_s
        return True
