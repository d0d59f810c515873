"""For command-line programs: an ArgumentParser with one-line errors, and output that does not raise."""

import argparse
import errno
import io
import os
import sys
from collections.abc import Callable
from typing import NoReturn

FAILED, USAGE_ERROR = 1, 2


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


def run_program(main: Callable[[], int]) -> int:
    """Return the exit status of a program; if its output cannot be written, 1 and one line on standard error.

    Without that line if the reader has ended, as after `| head -1`.
    """
    replace_unprintable()
    try:
        status = main()
        sys.stdout.flush()
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is written at exit
        if error.errno == errno.ENOSPC:
            sys.stderr.write(f"output: {error.strerror}\n")
        return FAILED
    return status
