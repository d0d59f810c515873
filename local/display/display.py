"""Two displays of a run: redrawn in place on a terminal, line by line in a log."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.live import Live

from local.display import tables
from local.display.summary import Arrivals
from local.plan import Plan
from local.processes.supervisor import Progress

PLAIN_EVERY_S = 5.0

Refresh = Callable[[], None]


class Display(Protocol):
    """Shows the start and then what arrives; each method yields a function that shows the current state."""

    def starting(self) -> AbstractContextManager[Refresh]:
        """Show the addresses and how far each unit is."""

    def arriving(self, arrivals: Arrivals) -> AbstractContextManager[Refresh]:
        """Show the rates."""


class TerminalDisplay:
    """Tables that are redrawn in place."""

    def __init__(self, console: Console, plan: Plan, progress: Mapping[str, Progress], logs: Path) -> None:
        self._console = console
        self._plan = plan
        self._progress = progress
        self._logs = logs

    @contextmanager
    def starting(self) -> Iterator[Refresh]:
        """Draw the table of addresses, with the seconds until each was ready."""
        with Live(console=self._console, auto_refresh=False) as live:
            yield lambda: live.update(tables.addresses(self._plan, self._progress, self._logs), refresh=True)

    @contextmanager
    def arriving(self, arrivals: Arrivals) -> Iterator[Refresh]:
        """Draw the rates of services and hops."""
        with Live(console=self._console, auto_refresh=False) as live:

            def refresh() -> None:
                if self._plan.collector:
                    live.update(tables.sending(self._plan, self._progress, arrivals.running_s), refresh=True)
                else:
                    live.update(tables.arrivals(arrivals, self._progress), refresh=True)

            yield refresh


class PlainDisplay:
    """A line for each unit as it becomes ready or fails, and one with the rates every five seconds."""

    def __init__(self, console: Console, plan: Plan, progress: Mapping[str, Progress]) -> None:
        self._console = console
        self._plan = plan
        self._progress = progress
        self._printed: dict[str, str] = {}

    @contextmanager
    def starting(self) -> Iterator[Refresh]:
        """Print a line for each unit that has become ready, or has failed, since the last call."""
        yield self._print_outcomes

    def _print_outcomes(self) -> None:
        for entry in self._plan.entries:
            each = self._progress[entry.name]
            ready = f"ready after {each.ready_after_s:.1f} s" if each.ready_after_s is not None else ""
            outcome = each.failure or ready
            if outcome and self._printed.get(entry.name) != outcome:
                self._printed[entry.name] = outcome
                self._console.print(f"{entry.name:10} {entry.address:32} {outcome}", soft_wrap=True)

    @contextmanager
    def arriving(self, arrivals: Arrivals) -> Iterator[Refresh]:
        """Print what has failed, and a line with the rates if five seconds have passed."""
        print_next = time.monotonic() + PLAIN_EVERY_S
        if self._plan.collector:
            self._console.print(tables.destination(self._plan), soft_wrap=True)

        def refresh() -> None:
            nonlocal print_next
            self._print_outcomes()
            if time.monotonic() >= print_next and not self._plan.collector:
                print_next += PLAIN_EVERY_S
                self._console.print(tables.plain_line(arrivals.summary, arrivals.running_s), soft_wrap=True)

        yield refresh
