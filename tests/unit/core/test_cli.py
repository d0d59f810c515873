"""Output that the terminal's encoding cannot represent does not crash command-line programs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from common.core.cli import replace_unprintable
replace_unprintable()
print("a → b", flush=True)
print("c … d", file=sys.stderr)
"""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "ascii:strict"])
def test_characters_outside_the_encoding_are_replaced(encoding: str) -> None:
    """Otherwise the first arrow would end the program with a UnicodeEncodeError."""
    done = subprocess.run(  # noqa: S603 - a program of the suite
        [sys.executable, "-c", PROGRAM], env={"PYTHONIOENCODING": encoding}, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"a ? b\n", b"c ? d\n")


def test_a_program_without_standard_output_runs_to_its_end() -> None:
    """`make doctor >&-` has no standard output: Python sets it to None, which has no write()."""
    program = PROGRAM + "sys.stdout.write('more')\nsys.exit(3)\n"
    done = subprocess.run(["sh", "-c", '"$0" -c "$1" >&- 2>&-', sys.executable, program], check=False)  # noqa: S603, S607
    assert done.returncode == 3


@pytest.mark.parametrize(
    ("module", "arguments", "status", "text"),
    [
        ("doctor", ["start"], (0, 1), "Before a start with Docker:"),
        ("workshop", ["list"], (0, 2), ""),
        ("local.servers.binaries", [], (0,), ""),
    ],
)
def test_each_command_prints_in_a_locale_without_arrows(
    module: str, arguments: list[str], status: tuple[int, ...], text: str
) -> None:
    """No encoding of the terminal results in a traceback."""
    done = subprocess.run(  # noqa: S603 - a program of the suite
        [sys.executable, "-m", module, *arguments],
        env={"PATH": "/usr/bin:/bin", "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in status, done.stderr
    assert "Traceback" not in done.stderr
    assert text in done.stdout


LONG = """
import sys
from pathlib import Path
from common.core.cli import run_program
sys.exit(run_program(lambda: print("x" * 100_000) or 0))
"""


def test_output_that_cannot_be_written_is_at_most_a_line() -> None:
    """A full disk is named; a reader that has ended, such as `head -1`, wants no more."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", LONG], stdout=full, stderr=subprocess.PIPE, check=False)  # noqa: S603
    assert (done.returncode, done.stderr) == (1, b"output: No space left on device\n")
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", LONG], stdout=writing, stderr=subprocess.PIPE, check=False)  # noqa: S603
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")
