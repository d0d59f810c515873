"""Generate the dashboards: `python -m grafana.source`; `--check` only reports files that are out of date."""

import sys
from pathlib import Path

from grafana.source.boards import ALL_DASHBOARDS
from tools.generated import run

FOLDER = Path(__file__).resolve().parents[1] / "dashboards"


def generated() -> dict[str, str]:
    """Return the generated files, by their names."""
    return {f"{board.name}.json": board.text() for board in ALL_DASHBOARDS}


if __name__ == "__main__":
    sys.exit(run("python -m grafana.source", __doc__, FOLDER, generated()))
