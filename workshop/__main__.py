"""python -m workshop: set planted faults, run scenarios, show the page with the switches."""

import argparse
import os
import sys
from collections.abc import Sequence

from common.core.cli import OneLineArgumentParser
from common.core.env import Env, SettingsError
from workshop import only_one, scenario_command
from workshop.errors import WorkshopError
from workshop.fault_command import clear_faults, list_faults, set_fault
from workshop.gateway import Gateway
from workshop.settings import Settings, load
from workshop.stack import Stack
from workshop.switches import Switches, answers

UNUSABLE, INTERRUPTED = 2, 130
COMMAND = "python -m workshop"


def arguments() -> argparse.ArgumentParser:
    """Give what the command understands."""
    parser = OneLineArgumentParser(prog="python -m workshop", description="Planted faults and scenarios.")
    parts = parser.add_subparsers(dest="part", metavar="fault | scenario | page")
    fault = parts.add_parser("fault", help="list, set and clear planted faults").add_subparsers(
        dest="do", required=True
    )
    fault.add_parser("list", help="each fault with its strength")
    setting = fault.add_parser("set", help="set one for a while")
    setting.add_argument("name")
    setting.add_argument("strength")
    setting.add_argument("--for", dest="lasts", default="10m", metavar="10m", help="how long; 10m if left out")
    fault.add_parser("clear", help="put one, or all, back to how they were at start").add_argument("name", nargs="?")
    scene = parts.add_parser("scenario", help="list and run scenarios, ask for a hint or the answer")
    scenes = scene.add_subparsers(dest="do", required=True)
    scenes.add_parser("list", help="each scenario by its name")
    running = scenes.add_parser("run", help="run one to its end, Ctrl-C ends it early")
    running.add_argument("name", nargs="?")
    running.add_argument("--blind", action="store_true", help="name no fault; without a name, one by chance")
    running.add_argument("--start", metavar="10s", help="how long before it begins; as its file says if left out")
    running.add_argument("--for", dest="lasts", metavar="5m", help="how long; as its file says if left out")
    for word, what in (("hint", "the next hint"), ("answer", "the answer")):
        scenes.add_parser(word, help=f"{what}, of the one that runs or of another").add_argument("name", nargs="?")
    scenes.add_parser("stop", help="end the one that runs")
    parts.add_parser("page", help="serve a page with a switch for each fault")
    return parser


def run(words: Sequence[str], env: Env) -> int:
    """Do what the words say; raises WorkshopError."""
    told = arguments().parse_args(words)
    settings = load(env)
    switches = Switches(settings.services)
    match (told.part, getattr(told, "do", "")):
        case ("fault", "list"):
            _say(list_faults(switches))
        case ("fault", "set"):
            _say(set_fault(switches, told.name, told.strength, told.lasts))
        case ("fault", "clear"):
            _say(clear_faults(switches, told.name))
        case ("scenario", do):
            return _scenario(do, told, switches, settings)
        case ("page", _):
            from workshop.page import serve  # all the rest works with any Python, where Flask is not installed

            serve(settings, switches)
        case _:
            _say(overview(settings, switches))
    return 0


def _scenario(do: str, told: argparse.Namespace, switches: Switches, settings: Settings) -> int:
    lock = only_one.lock_file(os.environ)
    match do:
        case "list":
            _say(scenario_command.list_scenarios(lock))
        case "run":
            return scenario_command.run_scenario(
                switches,
                lock,
                told.name,
                lambda line: _say([line]),
                gateway=Gateway(settings.gateway),
                stack=Stack(settings.stack),
                blind=told.blind,
                start=told.start,
                lasts=told.lasts,
            )
        case "hint":
            _say(scenario_command.hint(lock, told.name))
        case "answer":
            _say(scenario_command.answer(lock, told.name))
        case "stop":
            _say(scenario_command.stop_scenario(lock))
    return 0


def overview(settings: Settings, switches: Switches) -> list[str]:
    """Give what one can do, and whether the suite and the page are there to do it."""
    try:
        set_now = [state for state in switches.states() if state.strength != state.fault.default]
        suite = f"The suite runs; {len(set_now) or 'none'} of its faults differ from their default."
    except WorkshopError as away:
        suite = f"Not yet: {away}"
    page = settings.page if answers(settings.page) else f"not there; start it: {COMMAND} page"
    return [
        suite,
        f"The page with the switches: {page}",
        "",
        f"{COMMAND} fault list                    each fault with its strength",
        f"{COMMAND} fault set NAME 1 --for 5m     set one for a while",
        f"{COMMAND} fault clear [NAME]            as at start",
        f"{COMMAND} scenario list                 stories to find the fault of",
        f"{COMMAND} scenario run NAME [--blind]   run one; Ctrl-C ends it",
        f"{COMMAND} scenario hint | answer [NAME] of the one that runs",
        f"{COMMAND} scenario stop                 end it from elsewhere",
    ]


def _say(lines: Sequence[str]) -> None:
    print("\n".join(lines), flush=True)  # noqa: T201 - its output is what it is for


def main() -> int:
    """Run; a foreseeable fault is one line, and exit status 2."""
    try:
        return run(sys.argv[1:], Env(os.environ))
    except (WorkshopError, SettingsError) as fault:
        print(f"workshop: {fault}", file=sys.stderr)  # noqa: T201
        return UNUSABLE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return 0


if __name__ == "__main__":
    sys.exit(main())
