"""Fixtures of the failure tests: servers of the integration tests, counts and durations, and a table of results."""

import os
import sys
from collections.abc import Callable

import pytest

from tests.integration.conftest import gateway, postgres, rabbitmq, servers_folder

__all__ = ["gateway", "postgres", "rabbitmq", "servers_folder"]

Measured = Callable[[str], None]

KILLS = "FAILURE_KILLS"
DEFAULT_KILLS = 20

OUTAGE = "FAILURE_OUTAGE_MINUTES"
DEFAULT_OUTAGE_MINUTES = 2

_RESULTS = pytest.StashKey[list[tuple[str, str]]]()


@pytest.fixture(scope="session")
def kills() -> int:
    """Return how often a test kills a part: FAILURE_KILLS, by default 20."""
    text = os.environ.get(KILLS, str(DEFAULT_KILLS))
    if not text.isdecimal() or not int(text):
        pytest.exit(f"settings: {KILLS}={text!r} is not a whole number above 0", returncode=2)
    return int(text)


@pytest.fixture(scope="session")
def outage_minutes() -> float:
    """Return the total length of the collector's outages in minutes: FAILURE_OUTAGE_MINUTES, by default 2."""
    text = os.environ.get(OUTAGE, str(DEFAULT_OUTAGE_MINUTES))
    if not text.replace(".", "", 1).isdecimal() or not float(text):
        pytest.exit(f"settings: {OUTAGE}={text!r} is not a number of minutes above 0", returncode=2)
    return float(text)


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Measured:
    """Return a function that adds a text about this test to the table of results at the end of the run."""
    results = request.config.stash.setdefault(_RESULTS, [])
    return lambda text: results.append((request.node.name, text))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the results, one line each: the source of the figures in docs/appendix/failure-tests.md."""
    results = config.stash.get(_RESULTS, [])
    if results:
        terminalreporter.section(f"measured (Python {sys.version.split()[0]}, {os.cpu_count()} cores)")
    for name, text in results:
        terminalreporter.write_line(f"{name}\n    {text}")
