"""Runs the benchmarks and prints a table, and as its last line one JSON object: python -m bench."""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.generator import generator_cost
from bench.messages import message_rates
from bench.report import Measurement, table
from bench.server import server_cost
from bench.testbed import TestBed
from bench.usage import memory_at_default_load
from common.core.cli import USAGE_ERROR, OneLineArgumentParser, replace_unprintable
from common.core.env import SettingsError
from common.telemetry.standard_variables import check_standard_variables
from local.errors import LocalError

# What each part measures, and how.
PARTS: dict[str, tuple[str, Callable[[TestBed, argparse.Namespace], list[Measurement]]]] = {
    "server": (
        "cost of a request on each rung of INSTRUMENTATION",
        lambda testbed, words: server_cost(testbed, rounds=words.rounds, seconds=words.seconds),
    ),
    "messages": (
        "publisher to recorder, against pika alone",
        lambda testbed, words: message_rates(testbed, count=words.messages),
    ),
    "load": (
        "CPU per request of the generator",
        lambda testbed, words: generator_cost(testbed, rounds=1, seconds=words.seconds),
    ),
    "memory": (
        "each service under the default load",
        lambda testbed, words: memory_at_default_load(testbed, seconds=words.seconds * 3),
    ),
}
# An hour; what lasts longer is the soak.
MOST_S = 3600.0


def main(words: Sequence[str] | None = None) -> int:
    """Run the benchmarks; exit status 0, 1 if something could not be measured, 2 for a wrong argument or variable."""
    replace_unprintable()
    arguments = _arguments(words)
    try:
        check_standard_variables(os.environ)
    except SettingsError as fault:
        print(f"bench: {fault}", file=sys.stderr)
        return USAGE_ERROR
    figures: list[Measurement] = []
    with tempfile.TemporaryDirectory(prefix="mythical-bench-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o711)  # the servers' own users have to reach their folders below it
        try:
            with TestBed(Path(folder)) as testbed:
                for name in arguments.only or PARTS:
                    description, measure = PARTS[name]
                    print(f"{name}: {description}", file=sys.stderr, flush=True)
                    figures += measure(testbed, arguments)
        except LocalError as fault:
            sys.exit(f"bench: {fault}")
    print(table(figures))
    print(json.dumps({figure.key: figure.value for figure in figures}))
    return 0


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = OneLineArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, help="what to measure (default all)")
    parser.add_argument("--rounds", type=_count, default=3, help="rounds of the four rungs (default 3)")
    parser.add_argument("--seconds", type=_length, default=8, help="length of one measurement (default 8)")
    parser.add_argument("--messages", type=_count, default=6000, help="messages to send (default 6000)")
    return parser.parse_args(words)


def _count(text: str) -> int:
    """A whole number of at least one."""
    if not text.isascii() or not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, 1 or more")
    return int(text)


def _length(text: str) -> float:
    """Seconds, in which something can be measured."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= MOST_S:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, 1 to {MOST_S:,.0f}")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
