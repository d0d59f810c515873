"""Writes the rules of every scale from their source: `python -m mimir.source`; `--check` only says what is stale."""

import argparse
import sys
from pathlib import Path

from mimir.source.rules import groups
from mimir.source.scales import SCALES
from mimir.source.writing import text

FOLDER = Path(__file__).resolve().parents[1] / "rules"
# Mimir's name for the one tenant there is while multitenancy is off; local rules are looked for in its folder.
TENANT = "anonymous"


def wanted() -> dict[str, str]:
    """Return the files there should be, by their paths within the folder of rules."""
    return {f"{scale.name}/{TENANT}/slo.yaml": text(groups(scale)) for scale in SCALES}


def stale(folder: Path) -> list[str]:
    """Return the paths of files that are missing, differ from their source, or have none."""
    there = {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in folder.rglob("*.yaml")}
    files = wanted()
    return sorted(path for path in files | there if files.get(path) != there.get(path))


def write(folder: Path) -> None:
    """Write every file, and remove those that have no source."""
    for path in stale(folder):
        (folder / path).unlink(missing_ok=True)
    for path, content in wanted().items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content, encoding="utf-8")


def main() -> int:
    """Run the command line; the exit status is 1 when `--check` finds something."""
    parser = argparse.ArgumentParser(prog="python -m mimir.source", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, say what is out of date")
    if not parser.parse_args().check:
        write(FOLDER)
        return 0
    found = stale(FOLDER)
    if found:
        sys.stderr.write(f"out of date: {', '.join(found)}; run python -m mimir.source\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
