"""The supervisor starts and stops units in the order of their dependencies and handles failures."""

import sys
import time
from pathlib import Path

import pytest

from local.errors import LocalError
from local.plan import Entry, Plan
from local.processes.process import Process
from local.processes.supervisor import Supervisor

SLEEPER = "import time; time.sleep(60)"


class Sleeper:
    """A unit that is ready when the test says so, and that records when it is launched and stopped."""

    def __init__(self, name: str, folder: Path, events: list[str], program: str = SLEEPER) -> None:
        self.name = name
        self.process = Process(
            name,
            [sys.executable, "-c", program],
            log=folder / f"{name}.log",
            record=folder / f"{name}.pid",
            mark="time",
        )
        self._events = events
        self.ready = False

    def launch(self) -> None:
        """Start the process."""
        self._events.append(f"launch {self.name}")
        self.process.launch()

    def is_ready(self) -> bool:
        """Return whether the test marked it as ready."""
        return self.ready

    def stop(self, grace_s: float = 5) -> None:
        """Stop the process."""
        self._events.append(f"stop {self.name}")
        self.process.stop(grace_s)


def entry(unit: Sleeper, *needs: str, optional: bool = False, service: bool = False) -> Entry:
    """Return an entry of a unit."""
    return Entry(unit.name, "", "", unit, needs, optional, service)


def test_a_unit_starts_when_its_dependencies_are_ready(tmp_path: Path) -> None:
    """Otherwise, the first telemetry of the services would be lost."""
    events: list[str] = []
    database, server = Sleeper("database", tmp_path, events), Sleeper("server", tmp_path, events)
    supervisor = Supervisor(Plan((entry(server, "database", service=True), entry(database)), ""))
    supervisor.advance()
    assert events == ["launch database"]
    database.ready = True
    supervisor.advance()
    supervisor.advance()
    assert events == ["launch database", "launch server"]
    assert not supervisor.all_ready
    server.ready = True
    supervisor.advance()
    assert supervisor.all_ready
    supervisor.stop(lambda: False)
    assert events[2:] == ["stop server", "stop database"]
    assert not database.process.running
    assert not server.process.running


def test_a_unit_that_dies_ends_the_run_with_its_log(tmp_path: Path) -> None:
    """A suite with a missing part must not seem to run."""
    supervisor = Supervisor(Plan((entry(Sleeper("server", tmp_path, [], "raise SystemExit('bad day')")),), ""))
    with pytest.raises(LocalError, match=r"server ended after .*exit code 1") as caught:
        _advance_until_ready(supervisor)
    assert "bad day" in caught.value.detail


def test_an_optional_unit_may_die(tmp_path: Path) -> None:
    """The run continues without the dashboard and reports the failure."""
    unit = Sleeper("aspire", tmp_path, [], "raise SystemExit(1)")
    supervisor = Supervisor(Plan((entry(unit, optional=True),), ""))
    _advance_until_ready(supervisor)
    assert supervisor.all_ready
    assert "exit code 1" in supervisor.progress["aspire"].failure


def test_hurry_kills_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second Ctrl-C does not wait for the grace period of a service."""
    monkeypatch.setattr("local.processes.supervisor.SERVICES_GRACE_S", 60)
    unit = Sleeper("server", tmp_path, [], f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER}")
    supervisor = Supervisor(Plan((entry(unit, service=True),), ""))
    supervisor.advance()
    started = time.monotonic()
    supervisor.stop(lambda: True)
    assert time.monotonic() - started < 60
    assert not unit.process.running


def test_an_external_server_is_neither_started_nor_stopped() -> None:
    """An entry without a unit is only displayed."""
    supervisor = Supervisor(Plan((Entry("postgres", "db.example:5432", "yours"),), ""))
    supervisor.advance()
    assert supervisor.all_ready
    supervisor.stop(lambda: False)


def _advance_until_ready(supervisor: Supervisor) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not supervisor.all_ready:
        supervisor.advance()
        time.sleep(0.02)
