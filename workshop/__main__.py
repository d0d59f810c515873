"""python -m workshop: inject faults, run scenarios, serve the fault page."""

import argparse
import os
import sys
from collections.abc import Sequence

from common.core.cli import OneLineArgumentParser, run_program
from common.core.env import Env, SettingsError
from common.faults import InvalidFaultSetting, check_strength
from tools.query import is_up
from workshop import WorkshopError, scenario_command
from workshop.fault_client import FaultClient, FaultState, find_fault, format_duration, parse_lease
from workshop.gateway import Gateway
from workshop.run_lock import lock_file
from workshop.settings import Settings, load
from workshop.stack import Stack

UNUSABLE, INTERRUPTED = 2, 130
COMMAND = "python -m workshop"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    main = OneLineArgumentParser(prog=COMMAND, description="Inject faults and run scenarios.")
    parts = main.add_subparsers(dest="part", metavar="fault | scenario | page")
    fault = parts.add_parser("fault", help="list, set and clear injected faults").add_subparsers(
        dest="do", required=True
    )
    fault.add_parser("list", help="list all faults with their values")
    setting = fault.add_parser("set", help="inject a fault for a limited time")
    setting.add_argument("name")
    setting.add_argument("strength")
    setting.add_argument("--for", dest="lasts", default="10m", metavar="10m", help="how long (default: 10m)")
    fault.add_parser("clear", help="restore the startup value of a fault, or of all").add_argument("name", nargs="?")
    scene = parts.add_parser("scenario", help="list and run scenarios, show a hint or the answer")
    scenes = scene.add_subparsers(dest="do", required=True)
    scenes.add_parser("list", help="list all scenarios")
    running = scenes.add_parser("run", help="run a scenario; Ctrl-C stops it early")
    running.add_argument("name", nargs="?")
    running.add_argument("--blind", action="store_true", help="hide the fault's name; without NAME, pick at random")
    running.add_argument("--start", metavar="10s", help="delay before it starts (default: as in the scenario's file)")
    running.add_argument("--for", dest="lasts", metavar="5m", help="how long (default: as in the scenario's file)")
    for word, what in (("hint", "the next hint"), ("answer", "the answer")):
        scenes.add_parser(word, help=f"show {what} of the running scenario, or of NAME").add_argument("name", nargs="?")
    scenes.add_parser("stop", help="stop the running scenario")
    scenes.add_parser("catalogue", help="print docs/scenarios.md, with all answers")
    parts.add_parser("page", help="serve the fault page")
    return main


def run(words: Sequence[str], env: Env) -> int:
    """Run the command and return its exit status. Raises WorkshopError."""
    options = parser().parse_args(words)
    settings = load(env)
    client = FaultClient(settings.services)
    match (options.part, getattr(options, "do", "")):
        case ("fault", "list"):
            _print([_fault_line(state) for state in client.states()])
        case ("fault", "set"):
            _print([set_fault(client, options.name, options.strength, options.lasts)])
        case ("fault", "clear"):
            fault = find_fault(options.name) if options.name else None
            client.clear(fault)
            restored = "is restored to its startup value" if fault else "faults are restored to their startup values"
            _print([f"{fault.name if fault else 'all'} {restored}"])
        case ("scenario", do):
            return _scenario(do, options, client, settings)
        case ("page", _):
            from workshop.page import serve  # imports Flask, which the other commands do not need

            serve(settings, client)
        case _:
            _print(overview(settings, client))
    return 0


def _fault_line(state: FaultState) -> str:
    left = "" if state.seconds_left is None else f" for {format_duration(state.seconds_left)} more"
    sign = "*" if state.strength != state.fault.default else " "
    amount = f"{state.strength:g} of {state.fault.max_strength:g}{left}"
    return f"{sign} {state.fault.name:18} {state.fault.service:9} {amount:14} {state.fault.sentence}"


def set_fault(client: FaultClient, name: str, strength: str, lasts: str) -> str:
    """Inject a fault and return the line to print. Raises WorkshopError."""
    fault, lasts_s = find_fault(name), parse_lease(lasts)
    try:
        wanted = float(strength)
        check_strength(fault, wanted)
    except ValueError:
        raise WorkshopError(f"strength {strength!r} is not a number; use 0 to {fault.max_strength:g}") from None
    except InvalidFaultSetting as refusal:
        raise WorkshopError(str(refusal)) from refusal
    client.set(fault, wanted, lasts_s)
    return f"{fault.name} is {wanted:g} for {format_duration(lasts_s)}: {fault.sentence}"


def _scenario(do: str, options: argparse.Namespace, client: FaultClient, settings: Settings) -> int:
    lock = lock_file(os.environ)
    match do:
        case "list":
            _print(scenario_command.list_scenarios(lock))
        case "run":
            return scenario_command.run_scenario(
                client,
                lock,
                options.name,
                lambda line: _print([line]),
                gateway=Gateway(settings.gateway),
                stack=Stack(settings.stack),
                blind=options.blind,
                start=options.start,
                lasts=options.lasts,
            )
        case "hint":
            _print(scenario_command.hint(lock, options.name))
        case "answer":
            _print(scenario_command.answer(lock, options.name))
        case "catalogue":
            _print(scenario_command.catalogue())
        case "stop":
            _print(scenario_command.stop_scenario(lock))
    return 0


def overview(settings: Settings, client: FaultClient) -> list[str]:
    """Return the lines printed without an argument: the state of suite and fault page, and the commands."""
    try:
        changed = [state for state in client.states() if state.strength != state.fault.default]
        suite = f"The suite is running; {len(changed) or 'none'} of its faults differ from their default."
    except WorkshopError as error:
        suite = f"The suite is not ready: {error}"
    page = settings.page if is_up(f"{settings.page}/readyz") else f"not running; start it: {COMMAND} page"
    return [
        suite,
        f"The fault page: {page}",
        "",
        f"{COMMAND} fault list                    all faults with their values",
        f"{COMMAND} fault set NAME 1 --for 5m     inject a fault for a limited time",
        f"{COMMAND} fault clear [NAME]            restore startup values",
        f"{COMMAND} scenario list                 scenarios to diagnose",
        f"{COMMAND} scenario run NAME [--blind]   run a scenario; Ctrl-C stops it",
        f"{COMMAND} scenario hint | answer [NAME] of the running scenario, or of NAME",
        f"{COMMAND} scenario stop                 stop the running scenario",
    ]


def _print(lines: Sequence[str]) -> None:
    print("\n".join(lines), flush=True)  # noqa: T201 - its output is what it is for


def main() -> int:
    """Run the command; an expected error is one line on stderr and exit status 2."""
    try:
        return run(sys.argv[1:], Env(os.environ))
    except (WorkshopError, SettingsError) as fault:
        print(f"workshop: {fault}", file=sys.stderr)  # noqa: T201
        return UNUSABLE
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(run_program(main))
