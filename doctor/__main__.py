"""Says what is wrong with the suite, and what to do: python -m doctor [--json] [--wait 60] [start|docker|local].

Without a word it looks at what runs, or, if nothing does, at whether it could start.
Exit status: 0 all is well, 1 something is broken, 2 it was asked in a way that cannot be answered.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.core.cli import OneLineArgumentParser
from common.core.env import SettingsError
from doctor import dotenv, start
from doctor.containers import containers
from doctor.dotenv import ROOT
from doctor.report import UNUSABLE, Report, Unusable
from doctor.show import text
from doctor.suite_docker import SuiteWithDocker
from doctor.suite_local import SuiteWithoutDocker
from local.errors import LocalError
from local.ports import answers

SUITES = ("start", "docker", "local")
CLOUD_ENV = "cloud.env"
LONGEST_WAIT_S = 3600.0
POLL_S = 2.0


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """Read the command line; a mistake in it is one line and status 2."""
    parser = OneLineArgumentParser(prog="doctor", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("suite", nargs="?", choices=SUITES, help="what to look at; by default what runs here")
    parser.add_argument("--json", action="store_true", help="for scripts")
    parser.add_argument(
        "--wait", type=seconds, default=0.0, metavar="S", help="ask again for so long, until all is well"
    )
    parser.add_argument("--cloud", action="store_true", help="look at what the layer for Grafana Cloud needs as well")
    parser.add_argument("--env-file", type=Path, action="append", default=[], help="read after .env, as by compose")
    return parser.parse_args(words)


def seconds(word: str) -> float:
    """Read how long to wait."""
    try:
        number = float(word)
    except ValueError:
        number = -1.0
    if not 0 <= number <= LONGEST_WAIT_S:
        raise argparse.ArgumentTypeError(f"{word!r} is out of range; give seconds from 0 to {LONGEST_WAIT_S:g}")
    return number


def examine(asked: argparse.Namespace, environ: Mapping[str, str]) -> Report:
    """Look once. Raises Unusable, SettingsError or LocalError if what it is told cannot be used."""
    more = list(asked.env_file)
    if not more and (ROOT / CLOUD_ENV).exists():
        more = [ROOT / CLOUD_ENV]
    boxes = {} if asked.suite in ("start", "local") else containers()
    suite = asked.suite or _running(environ, bool(boxes))
    if suite == "local":
        return SuiteWithoutDocker(environ).report()
    if suite == "docker":
        return SuiteWithDocker(dotenv.values(environ, [ROOT / ".env", *more]), boxes).report()
    return start.examine(environ, more, with_cloud=asked.cloud or bool(more))


def _running(environ: Mapping[str, str], any_container: bool) -> str:
    if any_container:
        return "docker"
    if SuiteWithoutDocker(environ).summary() is not None:
        return "local"
    if not (ROOT / ".env").exists():
        return "start"
    # Docker may be on another account, or in a virtual machine that this one cannot ask.
    told = dotenv.values(environ, [ROOT / ".env"])
    taken = [answers(int(told[name])) for name in ("TEMPO_PORT", "MIMIR_PORT") if told.get(name, "").isdecimal()]
    return "docker" if taken and all(taken) else "start"


def main() -> int:
    """Look, say what was found, and return the exit status."""
    asked = arguments(sys.argv[1:])
    until = time.monotonic() + asked.wait
    try:
        report = examine(asked, os.environ)
        while report.status and time.monotonic() < until:
            time.sleep(POLL_S)
            report = examine(asked, os.environ)
    except (Unusable, SettingsError, LocalError) as fault:
        sys.stderr.write(f"doctor: {fault}\n")
        return UNUSABLE
    lines = [json.dumps(report.as_json(), indent=2)] if asked.json else text(report)
    sys.stdout.write("\n".join(lines) + "\n")
    return report.status


if __name__ == "__main__":
    sys.exit(main())
