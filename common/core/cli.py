"""ArgumentParser with one-line errors."""

import argparse
from typing import NoReturn

USAGE_ERROR = 2


class OneLineArgumentParser(argparse.ArgumentParser):
    """A parser that reports an error in one line and exits with status 2; its subparsers do the same."""

    def error(self, message: str) -> NoReturn:
        """Exit with the error."""
        name = self.prog.removeprefix("python -m ").split()[0]
        self.exit(USAGE_ERROR, f"{name}: {message}; for usage run: python -m {name} --help\n")
