"""What Locust loads: the users by their weights, the shape, and what happens at the start and the end of a run."""

import os
import sys
from itertools import count
from pathlib import Path
from typing import Any

import gevent
from locust import events, runners
from locust.env import Environment
from locust.runners import MasterRunner, WorkerRunner

from common.core.env import Env, SettingsError
from loadtest.beat import BEAT, beat
from loadtest.gate import Gate, judge, read_gate
from loadtest.load import Load
from loadtest.pacing import NamedShape
from loadtest.report import Report, table, write
from loadtest.results import figures_of, report_of
from loadtest.settings import Settings
from loadtest.settings import load as load_settings
from loadtest.telemetry import start_telemetry
from loadtest.users import ALL, Breeder, Browser, Keeper

__all__ = ["Breeder", "Browser", "Keeper"]

UNUSABLE, CROSSED = 2, 1
RESULTS = Path(os.environ.get("LOAD_RESULTS") or "var/load")

try:
    SETTINGS = load_settings(Env(os.environ))
    GATE: Gate | None = read_gate(Path(file)) if (file := os.environ.get("LOAD_GATE")) else None
except SettingsError as fault:
    print(f"loadtest: {fault}", file=sys.stderr)  # noqa: T201 - Locust runs this file as a program
    sys.exit(UNUSABLE)


def _weigh(settings: Settings) -> None:
    """Give each kind of user its weight; in a function, for Locust takes every name up here that is a user."""
    for user in ALL:
        # Locust refuses a class of weight 0, and passes over an abstract one.
        user.weight, user.abstract, user.host = (
            settings.weights[user.kind],
            not settings.weights[user.kind],
            settings.host,
        )


_weigh(SETTINGS)

# A worker is given up after so many seconds without a sign of life, and the run ends with the last of them. Locust's
# three are too few for a machine on which everything else runs as well.
runners.HEARTBEAT_LIVENESS = 20

if SETTINGS.shape != "steady":
    # Without a shape Locust itself keeps the load steady, and its page lets one change the users while it runs.
    class Pacing(NamedShape):
        """The shape of this run."""


@events.init_command_line_parser.add_listener
def _options(parser: Any) -> None:
    for name in ("--run-id", "--run-seed"):
        parser.add_argument(name, default="", include_in_web_ui=False, help="set for each run; not to be given here")


@events.init.add_listener
def _begin(environment: Environment, **_: Any) -> None:
    # Here and not above: with several processes, this comes after the fork, and each sends for itself.
    environment.load = load = Load(SETTINGS, start_telemetry(SETTINGS))
    runner = environment.runner
    gevent.spawn(beat, RESULTS / BEAT)
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
        # A worker got them with the order to start: Locust sends it the options that are none of its own.
        load.begin(options.run_id, options.run_seed)

    def send(data: dict[str, Any], **_: Any) -> None:
        data["tally"] = load.tally.drain()

    def receive(data: dict[str, Any], **_: Any) -> None:
        load.tally.add(**data.get("tally", {"passed": {}, "failed": {}, "requests": 0, "errors": 0, "planted": 0}))

    def close(**_: Any) -> None:
        load.telemetry.close()

    environment.events.test_start.add_listener(start)
    # The order to start a run that goes on already came before this.
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
    load: Load = environment.load
    figures = figures_of(environment.stats, load.tally)
    lines = judge(GATE, figures) if GATE else []
    report: Report = report_of(environment.stats, load, figures)
    whole, rows = write(report, lines, RESULTS)
    print(f"\n{table(report, lines)}\n\nwritten: {whole}, {rows}", flush=True)  # noqa: T201 - its output is what it is for
    environment.process_exit_code = CROSSED if any(not line.holds for line in lines) else 0
