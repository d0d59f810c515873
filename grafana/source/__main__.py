"""Generate the dashboards: `python -m grafana.source`; `--check` only reports files that are out of date."""

import argparse
import sys
from pathlib import Path

from grafana.source.boards import ALL_DASHBOARDS

FOLDER = Path(__file__).resolve().parents[1] / "dashboards"


def stale(folder: Path) -> list[str]:
    """Return the names of files in a folder that are missing, differ from their source, or have none."""
    generated = {f"{board.name}.json": board.text() for board in ALL_DASHBOARDS}
    existing = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    return sorted(name for name in generated | existing if generated.get(name) != existing.get(name))


def write(folder: Path) -> None:
    """Write every dashboard, and remove files without a source."""
    folder.mkdir(exist_ok=True)
    for name in stale(folder):
        (folder / name).unlink(missing_ok=True)
    for board in ALL_DASHBOARDS:
        (folder / f"{board.name}.json").write_text(board.text(), encoding="utf-8")


def main() -> int:
    """Run the command; return 1 if `--check` finds a file that is out of date."""
    parser = argparse.ArgumentParser(prog="python -m grafana.source", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, report what is out of date")
    if not parser.parse_args().check:
        write(FOLDER)
        return 0
    found = stale(FOLDER)
    if found:
        sys.stderr.write(f"out of date: {', '.join(found)}; run python -m grafana.source\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
