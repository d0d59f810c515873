"""A server held against one beside it.

The speed of a shared machine changes from minute to minute, by more than is looked for here, but for both alike.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from statistics import median

from bench.load import crud
from tests.failure.costs import used
from tests.integration.conftest import Service

WINDOW_S, TURN_S = 3.0, 1.0
CALLERS, BESIDE = 4, 1


@dataclass(frozen=True)
class Window:
    """What one server did in a window of load: answers per second, its CPU milliseconds for each, and the statuses."""

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
    """Windows of load on a server to which something happens, and on one beside it to which nothing does."""

    pairs: list[tuple[Window, Window]] = field(default_factory=list)

    def in_turns(self, server: Service, beside: Service, turns: int, callers: int) -> None:
        """Put load on the one and on the other for a second each: what each can do when it has the machine."""
        for _ in range(turns):
            self.pairs.append((load(server, callers, TURN_S), load(beside, callers, TURN_S)))

    def run(self, server: Service, beside: Service, seconds: float) -> None:
        """Put load on both at once, window after window, for that long or a little longer."""
        end = time.monotonic() + seconds
        with ThreadPoolExecutor(2) as pool:
            while time.monotonic() < end:
                ours, theirs = pool.submit(load, server, CALLERS), pool.submit(load, beside, BESIDE)
                self.pairs.append((ours.result(), theirs.result()))

    @property
    def statuses(self) -> set[int]:
        """All that the server answered."""
        return set().union(*(ours.statuses for ours, _ in self.pairs))

    @property
    def rate(self) -> float:
        """The server's answers per second."""
        return median(ours.rate for ours, _ in self.pairs)

    @property
    def cost(self) -> float:
        """The server's CPU milliseconds for each answer."""
        return median(ours.cost for ours, _ in self.pairs)

    @property
    def share(self) -> float:
        """The server's rate in that of the other."""
        return median(ours.rate / theirs.rate for ours, theirs in self.pairs)

    @property
    def dearer(self) -> float:
        """The server's cost in that of the other."""
        return median(ours.cost / theirs.cost for ours, theirs in self.pairs)
