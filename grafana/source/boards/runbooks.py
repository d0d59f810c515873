"""Runbooks: what to do about each alert, from docs/runbooks, in Grafana."""

from pathlib import Path

from grafana.source.board import Board, Row
from grafana.source.panels import text
from mimir.source.rules import alerts

UID = "mythical-runbooks"
FOLDER = Path(__file__).resolve().parents[3] / "docs/runbooks"
# The files have absolute links to Grafana, for readers elsewhere; in Grafana, relative links work at any address.
GRAFANA = "http://127.0.0.1:3000"


def runbook(alert: str) -> str:
    """Return the text of a runbook without its heading, which is the title of its panel."""
    return (FOLDER / f"{alert}.md").read_text(encoding="utf-8").partition("\n")[2].strip().replace(GRAFANA, "")


def board() -> Board:
    """Return the dashboard. The alerts link to its panels by number, see RUNBOOK in mimir/source/rules.py."""
    panels = tuple(text(alert, f"What to do when {alert} fires.", runbook(alert)) for alert in alerts())
    return Board(
        "runbooks", UID, "Runbooks", "What to do about each alert.", (Row("Alerts", panels),), since="1h", refresh=""
    )
