"""What the failure tests stand on: the servers of the integration tests, how often to kill, and a table of figures."""

import os
import sys
from collections.abc import Callable

import pytest

from tests.integration.conftest import gateway, postgres, rabbitmq, servers_folder

__all__ = ["gateway", "postgres", "rabbitmq", "servers_folder"]

Measured = Callable[[str], None]

KILLS = "FAILURE_KILLS"
DEFAULT_KILLS = 20

AWAY = "FAILURE_AWAY_MINUTES"
DEFAULT_AWAY_MINUTES = 2

_FIGURES = pytest.StashKey[list[tuple[str, str]]]()


@pytest.fixture(scope="session")
def kills() -> int:
    """Give how often a part is killed: FAILURE_KILLS, 20 if it is not set."""
    text = os.environ.get(KILLS, str(DEFAULT_KILLS))
    if not text.isdecimal() or not int(text):
        pytest.exit(f"settings: {KILLS}={text!r} is not a whole number above 0", returncode=2)
    return int(text)


@pytest.fixture(scope="session")
def away_minutes() -> float:
    """Give how long the collector is away in all: FAILURE_AWAY_MINUTES, 2 if it is not set."""
    text = os.environ.get(AWAY, str(DEFAULT_AWAY_MINUTES))
    if not text.replace(".", "", 1).isdecimal() or not float(text):
        pytest.exit(f"settings: {AWAY}={text!r} is not a number of minutes above 0", returncode=2)
    return float(text)


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Measured:
    """Give `measured(text)`: keep a figure of this test for the table at the end of the run."""
    figures = request.config.stash.setdefault(_FIGURES, [])
    return lambda text: figures.append((request.node.name, text))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was measured, one line each: the source of the figures in docs/appendix/failure-tests.md."""
    figures = config.stash.get(_FIGURES, [])
    if figures:
        terminalreporter.section(f"measured (Python {sys.version.split()[0]}, {os.cpu_count()} cores)")
    for name, text in figures:
        terminalreporter.write_line(f"{name}\n    {text}")
