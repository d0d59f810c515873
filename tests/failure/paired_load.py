"""Load on a server, compared with load on a control server.

The speed of a shared machine changes from minute to minute, by more than a test looks for, but for both servers alike.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import median

from bench.load import crud
from tests.failure.costs import used
from tests.integration.conftest import Service

WINDOW_S, TURN_S = 3.0, 1.0
CALLERS, CONTROL_CALLERS = 4, 1


@dataclass(frozen=True)
class Window:
    """One server in a window of load: responses per second, CPU milliseconds for each response, and the statuses."""

    rate: float
    cost: float
    statuses: frozenset[int]


def load(server: Service, callers: int, seconds: float = WINDOW_S) -> Window:
    """Put load on a server for one window."""
    before = used(server).cpu_s
    done = crud(server.port, connections=callers, seconds=seconds)
    return Window(done.rps, (used(server).cpu_s - before) * 1000 / done.requests, frozenset(done.statuses))


@dataclass
class Windows:
    """Windows of load on a server that a test disturbs, and on a control server that it doesn't."""

    pairs: list[tuple[Window, Window]] = field(default_factory=list)

    def in_turns(self, server: Service, control: Service, turns: int, callers: int) -> None:
        """Put load on each server in turn for a second: measures each with the machine to itself."""
        for _ in range(turns):
            self.pairs.append((load(server, callers, TURN_S), load(control, callers, TURN_S)))

    def run(self, server: Service, control: Service, seconds: float) -> None:
        """Put load on both servers at once, window after window, for `seconds` or a little longer."""
        end = time.monotonic() + seconds
        with ThreadPoolExecutor(2) as pool:
            while time.monotonic() < end:
                ours, theirs = pool.submit(load, server, CALLERS), pool.submit(load, control, CONTROL_CALLERS)
                self.pairs.append((ours.result(), theirs.result()))

    @property
    def statuses(self) -> set[int]:
        """All statuses of the server's responses."""
        return set().union(*(ours.statuses for ours, _ in self.pairs))

    @property
    def rate(self) -> float:
        """The median of the server's responses per second."""
        return median(ours.rate for ours, _ in self.pairs)

    @property
    def cost(self) -> float:
        """The median of the server's CPU milliseconds per response."""
        return median(ours.cost for ours, _ in self.pairs)

    @property
    def relative_rate(self) -> float:
        """The median of the server's rate divided by the control server's."""
        return median(ours.rate / theirs.rate for ours, theirs in self.pairs)

    @property
    def relative_cost(self) -> float:
        """The median of the server's cost divided by the control server's."""
        return median(ours.cost / theirs.cost for ours, theirs in self.pairs)
