"""Runs the benchmarks and prints a table, and as its last line one JSON object: python -m bench."""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.generator import generator_cost
from bench.messages import message_rates
from bench.report import Measurement, table
from bench.server import server_cost
from bench.testbed import TestBed
from bench.usage import memory_at_default_load
from common.core.cli import replace_unprintable
from local.errors import LocalError

# An hour; what lasts longer is the soak.
MOST_S = 3600.0


def main(words: Sequence[str] | None = None) -> int:
    """Run all benchmarks; exit status 0, 1 if something could not be measured, 2 for an argument that is not valid."""
    replace_unprintable()
    arguments = _arguments(words)
    figures: list[Measurement] = []
    with tempfile.TemporaryDirectory(prefix="mythical-bench-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o711)  # the servers' own users have to reach their folders below it
        try:
            with TestBed(Path(folder)) as testbed:
                _say("server: cost of a request on each rung of INSTRUMENTATION")
                figures += server_cost(testbed, rounds=arguments.rounds, seconds=arguments.seconds)
                _say("messages: publisher to recorder, against pika alone")
                figures += message_rates(testbed, count=arguments.messages)
                _say("load: CPU per request of the generator")
                figures += generator_cost(testbed, rounds=1, seconds=arguments.seconds)
                _say("memory: each service under the default load")
                figures += memory_at_default_load(testbed, seconds=arguments.seconds * 3)
        except LocalError as fault:
            sys.exit(f"bench: {fault}")
    print(table(figures))
    print(json.dumps({figure.key: figure.value for figure in figures}))
    return 0


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
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


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
