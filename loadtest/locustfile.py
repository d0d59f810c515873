"""The file that Locust loads: weighted users, the shape, and the listeners for start and end of a run."""

import logging
import os
import sys
from collections import deque
from itertools import count
from pathlib import Path
from typing import Any

import gevent
from locust import LoadTestShape, events, runners
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from common.core.cli import replace_unprintable
from common.core.env import Env, SettingsError
from loadtest.gate import Gate, judge, read_gate
from loadtest.load import LoadRun
from loadtest.report import Report, figures_of, report_of, table, write
from loadtest.settings import Settings
from loadtest.settings import load as load_settings
from loadtest.shapes import BreakLimits, ShapeParameters, exceeded_limit, users_at
from loadtest.telemetry import start_telemetry
from loadtest.users import ALL, Breeder, Browser, Keeper, Person

__all__ = ["Breeder", "Browser", "Keeper", "Person"]

UNUSABLE, GATE_FAILED = 2, 1
WINDOW = 10  # seconds in which "break" looks for an exceeded limit, as Locust does for its current p95
MIN_REQUESTS = 20  # in the window; a share of fewer says little
HEARTBEAT_FILE, HEARTBEAT_S = "beat", 3.0
RESULTS = Path(os.environ.get("LOAD_RESULTS") or "var/load")

log = logging.getLogger(__name__)
replace_unprintable()

try:
    SETTINGS = load_settings(Env(os.environ))
    GATE: Gate | None = read_gate(Path(file)) if (file := os.environ.get("LOAD_GATE")) else None
except SettingsError as fault:
    print(f"loadtest: {fault}", file=sys.stderr)  # noqa: T201 - Locust runs this file as a program
    sys.exit(UNUSABLE)


def _weigh(settings: Settings) -> None:
    """Set the weight of each kind of user; in a function, because Locust loads every user class in this namespace."""
    for user in ALL:
        # Locust rejects a class of weight 0, and ignores an abstract one.
        user.weight, user.abstract, user.host = (
            settings.weights[user.kind],
            not settings.weights[user.kind],
            settings.host,
        )


_weigh(SETTINGS)

# After so many missed heartbeats a worker counts as lost, and the run ends with the last worker. Locust's default of
# three is too few for a machine that also runs everything else.
runners.HEARTBEAT_LIVENESS = 20


class NamedShape(LoadTestShape):
    """The shape from the settings."""

    abstract = True

    def __init__(self) -> None:
        super().__init__()
        self._seen: deque[tuple[int, int]] = deque(maxlen=WINDOW)

    def reset_time(self) -> None:
        """Start a run, not necessarily the first: the page can start several in sequence."""
        super().reset_time()
        self._seen.clear()

    def tick(self) -> tuple[int, float] | None:
        """Return the number of users and how many start per second; None ends the run."""
        load: LoadRun = self.runner.environment.load
        settings = load.settings
        users = users_at(
            settings.shape, self.get_run_time(), ShapeParameters(settings.users, settings.rate, settings.shape_time_s)
        )
        if settings.shape == "break":
            where = f"{self.get_current_user_count()} users, {self.get_run_time():.0f} s after the start"
            if broke := self._exceeded_limit(load):
                self._report(load, f"broke at {where}: {broke}")
                return None
            if users is None:
                self._report(load, f"did not break up to {where}")
        # Shapes define their own slope, so all missing users start within a second.
        return None if users is None else (users, max(settings.rate, float(settings.users)))

    def _report(self, load: LoadRun, outcome: str) -> None:
        """Store the outcome for the report, and log it: a run with a page has no report, but shows its log."""
        load.broke = outcome
        log.warning("%s", outcome)

    def _exceeded_limit(self, load: LoadRun) -> str | None:
        tally, settings = load.tally, load.settings
        self._seen.append((tally.requests - tally.injected, tally.errors))
        requests, errors = (now - then for now, then in zip(self._seen[-1], self._seen[0], strict=True))
        if requests < MIN_REQUESTS:
            return None
        p95_ms = self.runner.stats.total.get_current_response_time_percentile(0.95) or 0
        return exceeded_limit(p95_ms, errors / requests, BreakLimits(settings.break_p95_ms, settings.break_error_share))


if SETTINGS.shape != "steady":
    # Without a shape, Locust keeps the load steady, and its page can change the number of users.
    class Pacing(NamedShape):
        """The shape of this run."""


def heartbeat(file: Path) -> None:
    """Touch a file until the process ends, for the health checks of containers; it ages if the event loop hangs."""
    file.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file.touch()
        gevent.sleep(HEARTBEAT_S)


@events.init_command_line_parser.add_listener
def _options(parser: Any) -> None:
    for name in ("--run-id", "--run-seed"):
        parser.add_argument(name, default="", include_in_web_ui=False, help="set by each run; do not use")


@events.init.add_listener
def _begin(environment: Environment, **_: Any) -> None:
    # Not at import: with several processes this runs after the fork, and each exports its own telemetry.
    environment.load = load = LoadRun(SETTINGS, start_telemetry(SETTINGS))
    runner = environment.runner
    gevent.spawn(heartbeat, RESULTS / HEARTBEAT_FILE)
    if not isinstance(runner, MasterRunner):
        kinds = {user.__name__: user.kind for user in ALL}
        load.telemetry.count_users(
            lambda: {kinds[name]: count for name, count in runner.user_classes_count.items() if name in kinds}
        )

    runs = count(1)

    def start(**_: Any) -> None:
        options = environment.parsed_options
        if not isinstance(runner, WorkerRunner):
            number = next(runs)
            options.run_id = SETTINGS.run_id + (f".{number}" if number > 1 else "")
            options.run_seed = SETTINGS.seed
        # A worker received them with the start message: Locust sends it the custom options.
        load.start(options.run_id, options.run_seed)

    def send(data: dict[str, Any], **_: Any) -> None:
        data["tally"] = load.tally.drain()

    def receive(data: dict[str, Any], **_: Any) -> None:
        load.tally.add(**data.get("tally", {"passed": {}, "failed": {}, "requests": 0, "errors": 0, "injected": 0}))

    def close(**_: Any) -> None:
        load.telemetry.close()

    environment.events.test_start.add_listener(start)
    # The start message of a run in progress arrived before this listener was added.
    if isinstance(runner, WorkerRunner) and environment.parsed_options.run_id:
        start()
    environment.events.quit.add_listener(close)
    if isinstance(runner, WorkerRunner):
        environment.events.report_to_master.add_listener(send)
    if isinstance(runner, MasterRunner):
        environment.events.worker_report.add_listener(receive)


@events.quitting.add_listener
def _end(environment: Environment, **_: Any) -> None:
    if isinstance(environment.runner, WorkerRunner) or not environment.parsed_options.headless:
        return
    load: LoadRun = environment.load
    figures = figures_of(environment.stats, load.tally)
    lines = judge(GATE, figures) if GATE else []
    report: Report = report_of(environment.stats, load, figures)
    whole, rows = write(report, lines, RESULTS)
    print(f"\n{table(report, lines)}\n\nresults: {whole}, {rows}", flush=True)  # noqa: T201 - its output is what it is for
    environment.process_exit_code = GATE_FAILED if any(not line.holds for line in lines) else 0
