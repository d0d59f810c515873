"""Runs the whole suite on this machine without Docker and shows its signals arriving: python -m local.demo."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from rich.console import Console, RenderableType
from rich.live import Live

from common.settings import Env, SettingsError
from local import liveview
from local.addresses import Ports
from local.errors import LocalError
from local.plan import Plan, Surroundings, make_plan
from local.process import short
from local.rabbitmq import RabbitMQ
from local.state import log_folder, only_one, state_folder
from local.summary import Summary, fetch
from local.supervisor import Supervisor

ASK_EVERY_S = 1.0
PLAIN_EVERY_S = 5.0
POLL_S = 0.05
FOREVER_S = 10 * 365 * 86_400
FAILED, UNUSABLE, INTERRUPTED = 1, 2, 130


class StopSignals:
    """Counts requests to stop: the first ends the run in good order, the second hurries it."""

    def __init__(self) -> None:
        self._count = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._count += 1

    def asked(self) -> bool:
        """Whether the run should end."""
        return self._count > 0

    def hurry(self) -> bool:
        """Whether it should end at once, whatever is lost."""
        return self._count > 1


class Demo:
    """One run: start all, show what arrives until told to stop or the time is over, stop all, say what was missing."""

    def __init__(self, plan: Plan, logs: Path, console: Console, stop: StopSignals) -> None:
        self._plan = plan
        self._logs = logs
        self._console = console
        self._stop = stop
        self._supervisor = Supervisor(plan)
        self._begun = time.monotonic()
        self._ask_next = self._begun
        self._first_after_s: float | None = None
        self._summary: Summary | None = None

    def run(self, seconds: float | None) -> int:
        """Run for `seconds` after the start, or for ever when None; return the exit code."""
        try:
            self._start()
            self._watch(FOREVER_S if seconds is None else seconds)
        finally:
            self._end()
        if seconds is None:
            return 0
        return INTERRUPTED if self._stop.asked() else self._verdict()

    def _start(self) -> None:
        show = self._show_start if self._console.is_terminal else self._tell_start
        with show() as update:
            while not self._supervisor.all_ready and not self._stop.asked():
                self._supervisor.advance()
                self._ask()
                update()
                time.sleep(POLL_S)

    def _watch(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        show = self._show_arrivals if self._console.is_terminal else self._tell_arrivals
        with show() as update:
            while time.monotonic() < deadline and not self._stop.asked():
                self._supervisor.advance()
                if self._ask():
                    update()
                time.sleep(POLL_S)

    def _ask(self) -> bool:
        """Ask the gateway what has arrived, once a second; return whether it was time to."""
        if time.monotonic() < self._ask_next:
            return False
        self._ask_next = time.monotonic() + ASK_EVERY_S
        self._summary = fetch(self._plan.page) or self._summary
        if self._summary and self._summary.cells and self._first_after_s is None:
            self._first_after_s = time.monotonic() - self._begun
        return True

    def _end(self) -> None:
        begun = time.monotonic()
        self._console.print("\n[dim] stopping: the services send what they hold, then all ends …[/]")
        self._supervisor.stop(self._stop.hurry)
        how = "killed" if self._stop.hurry() else "stopped"
        self._console.print(f"[dim] {how}, nothing is left running ({time.monotonic() - begun:.1f} s)[/]")

    def _verdict(self) -> int:
        summary = self._summary or Summary()
        cells, hops = summary.missing_cells(), summary.missing_hops()
        if not cells and not hops:
            first = f"the first after {self._first_after_s or 0:.0f} s"
            self._console.print(f"[green] seen: every signal of every service, and every hop[/]; {first}")
            return 0
        for service, kind in cells:
            log = short(self._logs / f"{service.removeprefix('mythical-')}.log")
            self._console.print(f"[red] missing: {kind} of {service}[/]; see {log}", soft_wrap=True)
        for source, target in hops:
            self._console.print(f"[red] missing: hop {source} → {target}[/]", soft_wrap=True)
        self._console.print(f" While it runs (make demo), {self._plan.page} shows what arrives.", soft_wrap=True)
        return FAILED

    # Two ways to show: redrawn in place on a terminal, line by line in a log.

    @contextmanager
    def _show_start(self) -> Iterator[Callable[[], None]]:
        def table() -> RenderableType:
            return liveview.addresses(self._plan, self._supervisor.progress, short(self._logs))

        with Live(table(), console=self._console, auto_refresh=False) as live:
            yield lambda: live.update(table(), refresh=True)

    @contextmanager
    def _tell_start(self) -> Iterator[Callable[[], None]]:
        told: set[str] = set()

        def tell() -> None:
            for entry in self._plan.entries:
                each = self._supervisor.progress[entry.name]
                if entry.name not in told and (each.ready_after_s is not None or each.lost):
                    told.add(entry.name)
                    outcome = each.lost or f"ready after {each.ready_after_s:.1f} s"
                    self._console.print(f"{entry.name:10} {entry.address:32} {outcome}", soft_wrap=True)

        yield tell

    @contextmanager
    def _show_arrivals(self) -> Iterator[Callable[[], None]]:
        def view() -> RenderableType:
            return liveview.arrivals(self._summary, time.monotonic() - self._begun, self._first_after_s)

        with Live(view(), console=self._console, auto_refresh=False) as live:
            yield lambda: live.update(view(), refresh=True)

    @contextmanager
    def _tell_arrivals(self) -> Iterator[Callable[[], None]]:
        told_at = time.monotonic()

        def tell() -> None:
            nonlocal told_at
            if time.monotonic() - told_at >= PLAIN_EVERY_S:
                told_at = time.monotonic()
                line = liveview.plain_line(self._summary, time.monotonic() - self._begun)
                self._console.print(line, soft_wrap=True)

        yield tell


def run(env: Env, console: Console, stop: StopSignals) -> int:
    """Read the settings, make room for the run and run it; return the exit code."""
    seconds = env.number("DEMO_SECONDS", 0, 0, FOREVER_S) or None
    ports = Ports.read(env)
    here = Surroundings(os.environ, ports, state_folder(os.environ), log_folder(os.environ))
    with only_one(here.state):
        plan = make_plan(here)
        for entry in plan.entries:
            if entry.unit is not None:
                entry.unit.process.end_orphan()
                entry.unit.process.log.unlink(missing_ok=True)
            if isinstance(entry.unit, RabbitMQ):
                # The gateway's memory ended with the last run: of a message from then, nobody could show the sender.
                entry.unit.forget()
        ports.check_free()
        return Demo(plan, here.logs, console, stop).run(seconds)


def main() -> int:
    """Run the demo; a foreseeable fault is one line and the end of the log that tells more."""
    console = Console(highlight=False)
    try:
        return run(Env(os.environ), console, StopSignals())
    except SettingsError as fault:
        console.print(f"demo: {fault}", style="red", soft_wrap=True, markup=False)
        return UNUSABLE
    except LocalError as fault:
        console.print(f"\n{fault}", style="red", soft_wrap=True, markup=False)
        if fault.detail:
            console.print("\n".join(f"  {line}" for line in fault.detail.splitlines()), soft_wrap=True, markup=False)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
