"""The supervisor: order of starting and stopping, and what a failure does."""

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
    """A unit that is ready when its file appears, and notes when it is launched and stopped."""

    def __init__(self, name: str, folder: Path, diary: list[str], program: str = SLEEPER) -> None:
        self.name = name
        self.process = Process(
            name,
            [sys.executable, "-c", program],
            log=folder / f"{name}.log",
            record=folder / f"{name}.pid",
            mark="time",
        )
        self._diary = diary
        self.ready = False

    def launch(self) -> None:
        """Start it."""
        self._diary.append(f"launch {self.name}")
        self.process.launch()

    def is_ready(self) -> bool:
        """Tell whether the test called it ready."""
        return self.ready

    def stop(self, grace_s: float = 5) -> None:
        """Stop it."""
        self._diary.append(f"stop {self.name}")
        self.process.stop(grace_s)


def entry(unit: Sleeper, *needs: str, optional: bool = False, service: bool = False) -> Entry:
    """Make an entry of a unit."""
    return Entry(unit.name, "", "", unit, needs, optional, service)


def test_a_unit_starts_once_its_needs_are_ready(tmp_path: Path) -> None:
    """Otherwise the services' first signals would find nobody to take them."""
    diary: list[str] = []
    database, server = Sleeper("database", tmp_path, diary), Sleeper("server", tmp_path, diary)
    supervisor = Supervisor(Plan((entry(server, "database", service=True), entry(database)), ""))
    supervisor.advance()
    assert diary == ["launch database"]
    database.ready = True
    supervisor.advance()
    supervisor.advance()
    assert diary == ["launch database", "launch server"]
    assert not supervisor.all_ready
    server.ready = True
    supervisor.advance()
    assert supervisor.all_ready
    supervisor.stop(lambda: False)
    assert diary[2:] == ["stop server", "stop database"]
    assert not database.process.running
    assert not server.process.running


def test_a_unit_that_dies_ends_the_run_with_its_log(tmp_path: Path) -> None:
    """A suite with a dead part would only look as if it ran."""
    supervisor = Supervisor(Plan((entry(Sleeper("server", tmp_path, [], "raise SystemExit('bad day')")),), ""))
    with pytest.raises(LocalError, match=r"server ended after .*exit code 1") as caught:
        _advance_for_a_while(supervisor)
    assert "bad day" in caught.value.detail


def test_an_optional_unit_may_die(tmp_path: Path) -> None:
    """Without the dashboard, the run goes on and says so."""
    unit = Sleeper("aspire", tmp_path, [], "raise SystemExit(1)")
    supervisor = Supervisor(Plan((entry(unit, optional=True),), ""))
    _advance_for_a_while(supervisor)
    assert supervisor.all_ready
    assert "exit code 1" in supervisor.progress["aspire"].failure


def test_hurry_kills_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second Ctrl-C does not wait for anybody, however long a service may take otherwise."""
    monkeypatch.setattr("local.processes.supervisor.SERVICES_GRACE_S", 60)
    unit = Sleeper("server", tmp_path, [], f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER}")
    supervisor = Supervisor(Plan((entry(unit, service=True),), ""))
    supervisor.advance()
    begun = time.monotonic()
    supervisor.stop(lambda: True)
    assert time.monotonic() - begun < 60
    assert not unit.process.running


def test_a_server_of_somebody_else_is_neither_started_nor_stopped() -> None:
    """An entry without a unit is only shown."""
    supervisor = Supervisor(Plan((Entry("postgres", "db.example:5432", "yours"),), ""))
    supervisor.advance()
    assert supervisor.all_ready
    supervisor.stop(lambda: False)


def _advance_for_a_while(supervisor: Supervisor) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not supervisor.all_ready:
        supervisor.advance()
        time.sleep(0.02)
