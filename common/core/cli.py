"""Command lines whose mistakes are told in one line."""

import argparse
from typing import NoReturn

UNUSABLE = 2


class OneLineArgumentParser(argparse.ArgumentParser):
    """A parser whose complaint is one line, with exit status 2; so are those of the parsers below it."""

    def error(self, message: str) -> NoReturn:
        """End with the complaint."""
        name = self.prog.removeprefix("python -m ").split()[0]
        self.exit(UNUSABLE, f"{name}: {message}; python -m {name} --help says what there is\n")
