"""For command-line programs: an ArgumentParser with one-line errors, and output that does not raise."""

import argparse
import io
import os
import sys
from typing import NoReturn

USAGE_ERROR = 2


class OneLineArgumentParser(argparse.ArgumentParser):
    """A parser that reports an error in one line and exits with status 2; its subparsers do the same."""

    def error(self, message: str) -> NoReturn:
        """Exit with the error."""
        name = self.prog.removeprefix("python -m ").split()[0]
        self.exit(USAGE_ERROR, f"{name}: {message}; for usage run: python -m {name} --help\n")


def replace_unprintable() -> None:
    """Make standard output replace characters that its encoding lacks, and accept output where it is closed.

    By default, printing an arrow where the locale is ISO-8859-1 raises UnicodeEncodeError, and without a standard
    output (`>&-`) the streams are None.
    """
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the process ends
    sys.stderr = sys.stderr or sys.stdout
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
