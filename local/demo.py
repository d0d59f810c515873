"""Runs the whole suite on this machine without Docker and shows its signals arriving: python -m local.demo."""

import argparse
import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from rich.console import Console

from common.core.cli import replace_unprintable
from common.core.env import Env, SettingsError
from local.display.display import Display, PlainDisplay, TerminalDisplay
from local.display.summary import Arrivals
from local.errors import LocalError, explain
from local.plan import Plan, RunContext, make_plan
from local.ports import LOOPBACK, OF_THE_GATEWAY, Ports
from local.postgres_log import PostgresLog
from local.processes.supervisor import Supervisor
from local.servers.postgres import Postgres
from local.servers.rabbitmq import RabbitMQ
from local.state import log_folder, only_one, raise_file_limit, short, state_folder

POLL_S = 0.05
FOREVER_S = 10 * 365 * 86_400
FAILED, UNUSABLE, INTERRUPTED = 1, 2, 130


class StopSignals:
    """Counts requests to stop: the first stops the run gracefully, the second kills it."""

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
        """Whether it should end immediately, even if data are lost."""
        return self._count > 1


class Demo:
    """One run: start everything, show what arrives until the time is over or a signal comes, stop, report."""

    def __init__(self, plan: Plan, logs: Path, console: Console, stop: StopSignals) -> None:
        self._console = console
        self._logs = logs
        self._stop = stop
        self._page = plan.page
        self._collector = plan.collector
        self._rungs = plan.rungs
        self._arrivals = Arrivals(plan.page)
        self._supervisor = Supervisor(plan)
        progress = self._supervisor.progress
        self._display: Display = PlainDisplay(console, plan, progress)
        if console.is_terminal:
            self._display = TerminalDisplay(console, plan, progress, logs)

    def run(self, seconds: float | None) -> int:
        """Run for `seconds` after the start, or forever when None; return the exit code."""
        for service, rung in self._rungs.items():
            if rung == "ebpf":
                self._say(
                    f"[yellow] {service}: INSTRUMENTATION=ebpf needs Docker (docs/compose.md); it runs as with off[/]"
                )
        try:
            self._start()
            self._watch(FOREVER_S if seconds is None else seconds)
        finally:
            self._end()
        if seconds is None:
            return 0
        return INTERRUPTED if self._stop.asked() else self._verdict()

    def _start(self) -> None:
        with self._display.starting() as refresh:
            while not self._supervisor.all_ready and not self._stop.asked():
                self._supervisor.advance()
                self._arrivals.ask()
                refresh()
                time.sleep(POLL_S)

    def _watch(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        with self._display.arriving(self._arrivals) as refresh:
            while time.monotonic() < deadline and not self._stop.asked():
                self._supervisor.advance()
                if self._arrivals.ask():
                    refresh()
                time.sleep(POLL_S)

    def _end(self) -> None:
        begun = time.monotonic()
        try:
            self._say("\n[dim] stopping: the services send their buffered telemetry first …[/]")
        finally:
            self._supervisor.stop(self._stop.hurry)
        how = "killed" if self._stop.hurry() else "stopped"
        self._say(f"[dim] {how} all processes ({time.monotonic() - begun:.1f} s)[/]")

    def _verdict(self) -> int:
        if self._collector:
            logs = f"{self._logs}/*.log"
            self._say(f" telemetry was sent to {self._collector}; see there what arrived, and in {logs} what did not")
            return 0
        summary = self._arrivals.summary
        cells, stopped, hops = (
            [pair for pair in pairs if not self._rungs.keys() & set(pair)]
            for pairs in (summary.missing_cells(), summary.stopped_cells(), summary.missing_hops())
        )
        for service, rung in self._rungs.items():
            self._say(f" not expected: the signals of {service}, which has INSTRUMENTATION={rung}")
        if not cells and not stopped and not hops:
            first = f"first signals after {self._arrivals.first_after_s or 0:.0f} s"
            every = "every other service, and every hop between them" if self._rungs else "every service, and every hop"
            self._say(f"[green] complete: every signal of {every}[/]; {first}")
            return 0
        for word, which in (("missing", cells), ("stopped arriving", stopped)):
            for service, kind in which:
                log = f"{self._logs}/{service.removeprefix('mythical-')}.log"
                self._say(f"[red] {word}: {kind} of {service}[/]; see {log}")
        for source, target in hops:
            self._say(f"[red] missing: hop {source} → {target}[/]")
        self._say(f" While make demo runs, {self._page} shows what arrives.")
        return FAILED

    def _say(self, text: str) -> None:
        # The terminal or the reader of a pipe may be closed (SystemExit, from rich): the processes must be stopped and
        # the exit code is the run's.
        with contextlib.suppress(OSError, SystemExit):
            self._console.print(text, soft_wrap=True)


def run(env: Env, console: Console, stop: StopSignals) -> int:
    """Read the settings, end what an earlier run left, and run; return the exit code."""
    seconds = env.number("DEMO_SECONDS", 0, 0, FOREVER_S) or None
    ports = Ports.read(env)
    here = RunContext(os.environ, ports, state_folder(os.environ), log_folder(os.environ))
    raise_file_limit()
    with only_one(here.state):
        plan = make_plan(here)
        for entry in plan.entries:
            if entry.unit is not None:
                entry.unit.process.end_orphan()
                entry.unit.process.log.unlink(missing_ok=True)
            if isinstance(entry.unit, RabbitMQ):
                # The gateway kept nothing of the last run: the traces of messages from then would lack their producers.
                entry.unit.forget()
        ports.check_free(OF_THE_GATEWAY if plan.collector else ())
        with contextlib.ExitStack() as logs:
            for entry in plan.entries:
                if plan.page and isinstance(entry.unit, Postgres):
                    url = f"http://{LOOPBACK}:{ports['Loki push']}/loki/api/v1/push"
                    logs.enter_context(PostgresLog(entry.unit.process.log, url))
            return Demo(plan, short(here.logs), console, stop).run(seconds)


def main() -> int:
    """Run the demo; an expected error is printed in one line, with the end of the log that has the details."""
    replace_unprintable()
    console = Console(highlight=False)
    try:
        return run(Env(os.environ), console, StopSignals())
    except SettingsError as error:
        console.print(f"demo: {error}", style="red", soft_wrap=True, markup=False)
        return UNUSABLE
    except (LocalError, OSError) as error:
        fault = explain(error) if isinstance(error, OSError) else error
        console.print(f"\n{fault}", style="red", soft_wrap=True, markup=False)
        if fault.detail:
            console.print("\n".join(f"  {line}" for line in fault.detail.splitlines()), soft_wrap=True, markup=False)
        return FAILED


if __name__ == "__main__":
    argparse.ArgumentParser(
        prog="python -m local.demo",
        description="Run the suite without Docker and show its signals as they arrive. Ctrl-C stops it.",
        epilog="Environment variables configure it, for example DEMO_SECONDS=40; see docs/reference/settings.md.",
    ).parse_args()
    sys.exit(main())
