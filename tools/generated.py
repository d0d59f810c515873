"""Committed files that a program generates: which are out of date, and the command that writes them."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path


def stale(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Return the paths in a folder of files that are missing, differ from `files` (path: text), or are not in it."""
    existing = {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in folder.rglob("*")
        if path.is_file()
    }
    return sorted(path for path in files.keys() | existing if files.get(path) != existing.get(path))


def run(command: str, description: str | None, folder: Path, files: Mapping[str, str]) -> int:
    """Write every file and remove the others; with `--check` on the command line, only report what is out of date.

    Return 1 if `--check` finds something.
    """
    parser = argparse.ArgumentParser(prog=command, description=description)
    parser.add_argument("--check", action="store_true", help="write nothing, report what is out of date")
    found = stale(folder, files)
    if parser.parse_args().check:
        if found:
            sys.stderr.write(f"out of date: {', '.join(found)}; run {command}\n")
        return 1 if found else 0
    for path in found:
        (folder / path).unlink(missing_ok=True)
        if path in files:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(files[path], encoding="utf-8")
    return 0
