"""Check the suite and suggest fixes: python -m doctor [--json] [--wait 60] [--context NAME | start|docker|local].

Without an argument it checks what runs here or, if nothing does, whether the suite could start.
Exit status: 0 all checks passed, 1 something is broken, 2 usage error.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.core.cli import OneLineArgumentParser, run_program
from common.core.env import SettingsError
from doctor import env_files, machine
from doctor.containers import containers
from doctor.env_files import ROOT
from doctor.report import UNUSABLE, Report, Unusable, text
from doctor.suite_docker import SuiteWithDocker
from doctor.suite_kubernetes import SuiteInCluster
from doctor.suite_local import SuiteWithoutDocker
from local.errors import LocalError
from local.ports import answers

SUITES = ("start", "docker", "local")
CLOUD_ENV = "cloud.env"
MAX_WAIT_S = 3600.0
POLL_S = 2.0


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; a mistake exits with one line and status 2."""
    parser = OneLineArgumentParser(prog="doctor", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("suite", nargs="?", choices=SUITES, help="what to check; by default what runs here")
    parser.add_argument("--context", default="", help="check the suite in the cluster of this context of kubectl")
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    parser.add_argument(
        "--wait", type=wait_seconds, default=0.0, metavar="S", help="repeat for this long, until all checks pass"
    )
    parser.add_argument("--cloud", action="store_true", help="check the settings of Grafana Cloud too")
    parser.add_argument("--env-file", type=Path, action="append", default=[], help="read after .env, as compose does")
    options = parser.parse_args(words)
    if options.context and options.suite:
        parser.error(f"--context checks a cluster; leave out {options.suite}")
    return options


def wait_seconds(word: str) -> float:
    """Parse the argument of --wait."""
    try:
        number = float(word)
    except ValueError:
        number = -1.0
    if not 0 <= number <= MAX_WAIT_S:
        raise argparse.ArgumentTypeError(f"{word!r} is out of range; use seconds from 0 to {MAX_WAIT_S:g}")
    return number


def examine(options: argparse.Namespace, environ: Mapping[str, str]) -> Report:
    """Run all checks once. Raises Unusable, SettingsError or LocalError if an input is invalid."""
    if options.context:
        return SuiteInCluster(options.context).report()
    more = list(options.env_file)
    if not more and (ROOT / CLOUD_ENV).exists():
        more = [ROOT / CLOUD_ENV]
    boxes = {} if options.suite in ("start", "local") else containers()
    suite = options.suite or _running(environ, bool(boxes))
    if suite == "local":
        return SuiteWithoutDocker(environ).report()
    if suite == "docker":
        return SuiteWithDocker(env_files.values(environ, [ROOT / ".env", *more]), boxes).report()
    return machine.examine(environ, more, with_cloud=options.cloud or bool(more))


def _running(environ: Mapping[str, str], any_container: bool) -> str:
    if any_container:
        return "docker"
    if SuiteWithoutDocker(environ).runs():
        return "local"
    if not (ROOT / ".env").exists():
        return "start"
    # Docker may belong to another account, or run in a virtual machine that this process cannot query.
    variables = env_files.values(environ, [ROOT / ".env"])
    ports = [variables.get(name, "") for name in ("TEMPO_PORT", "MIMIR_PORT")]
    taken = [answers(int(number)) for number in ports if number.isdecimal()]
    return "docker" if taken and all(taken) else "start"


def main() -> int:
    """Run the checks, print the report, and return the exit status."""
    options = parse_arguments(sys.argv[1:])
    until = time.monotonic() + options.wait
    try:
        report = examine(options, os.environ)
        while report.status and time.monotonic() < until:
            time.sleep(POLL_S)
            report = examine(options, os.environ)
    except (Unusable, SettingsError, LocalError) as fault:
        sys.stderr.write(f"doctor: {fault}\n")
        return UNUSABLE
    lines = [json.dumps(report.as_json(), indent=2)] if options.json else text(report)
    sys.stdout.write("\n".join(lines) + "\n")
    return report.status


if __name__ == "__main__":
    sys.exit(run_program(main))
