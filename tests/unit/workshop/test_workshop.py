"""The workshop's command parses durations and scenario files and runs one scenario at a time."""

import os
from functools import partial
from pathlib import Path

import pytest

from common.core.env import Env
from workshop import WorkshopError, run_lock, scenario
from workshop.fault_client import format_duration, parse_duration, parse_lease
from workshop.gateway import _time_in
from workshop.settings import load


@pytest.mark.parametrize(("text", "length"), [("90", 90), ("90s", 90), ("10m", 600), ("1.5 h", 5400), ("2H", 7200)])
def test_a_duration_is_parsed(text: str, length: float) -> None:
    """The usual notations are accepted."""
    assert parse_duration(text) == length


@pytest.mark.parametrize("text", ["", "soon", "-1", "1d", "1e3", "9" * 20, "nan"])
def test_an_invalid_duration_is_rejected(text: str) -> None:
    """The message has examples."""
    with pytest.raises(WorkshopError, match="10m"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0", "0.5", "25h"])
def test_a_lease_out_of_range_is_rejected_with_the_option(text: str) -> None:
    """The message names the option of the command, not the field `seconds` of the request."""
    with pytest.raises(WorkshopError, match=rf"--for {text} is out of range; use 1s to 24h"):
        parse_lease(text)
    assert parse_lease("24h") == 86_400


def test_a_duration_is_formatted() -> None:
    """Whole minutes are formatted as minutes."""
    assert [format_duration(length) for length in (5, 90, 119.6, 300)] == ["5 s", "90 s", "120 s", "5 min"]


def test_the_ports_of_the_demo_select_its_services() -> None:
    """A configured address takes precedence."""
    settings = load(Env({"DEMO_SERVER_PORT": "4100", "WORKSHOP_RECORDER": "http://there:1"}))
    assert settings.services == {
        "server": "http://127.0.0.1:4100",
        "requester": "http://127.0.0.1:4001",
        "recorder": "http://there:1",
        "frontend": "http://127.0.0.1:4005",
    }
    assert settings.page == "http://127.0.0.1:4003"


GOOD = """
title = "t"
alert = "A"
start = "1s"
lasts = "1m"
complaint = "x"
hints = ["a", "b"]
answer = "y"
where = ["README.md"]
[faults]
slow_query = 1
[[symptom]]
sentence = "z"
gateway = {signal = "spans", figure = "p75_ms", above = 1}
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("slow_query = 1", "slow_query = 6"),
        ("slow_query = 1", "slow_quary = 1"),
        ("title", "titel"),
        ('"1m"', '"soon"'),
        ('signal = "spans"', 'signal = "smell"'),
        ("[faults]", "[faults"),
        ('"A"', "7"),
        ('"A"', "[7]"),
    ],
)
def test_an_invalid_scenario_is_rejected_in_one_line(
    old: str, new: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This happens before a fault is set."""
    monkeypatch.setattr(scenario, "FOLDER", tmp_path)
    (tmp_path / "good.toml").write_text(GOOD)
    assert (scenario.read("good").lasts_s, scenario.read("good").alerts) == (60, ("A",))
    (tmp_path / "bad.toml").write_text(GOOD.replace(old, new))
    with pytest.raises(WorkshopError) as rejection:
        scenario.read("bad")
    assert "\n" not in str(rejection.value)


def test_one_scenario_runs_at_a_time(tmp_path: Path) -> None:
    """The error names the running scenario unless it is blind."""
    lock = tmp_path / "scenario.lock"
    assert run_lock.running(lock) is None
    for blind, name in ((False, "the scenario first"), (True, "another scenario")):
        with run_lock.run_lock(lock, "first", blind=blind):
            assert run_lock.running(lock) == run_lock.Run("first", blind, os.getpid())
            with pytest.raises(WorkshopError, match=name), run_lock.run_lock(lock, "second", blind=False):
                pytest.fail("a second one started")
    assert run_lock.running(lock) is None
    with pytest.raises(WorkshopError, match="no scenario is running"):
        run_lock.stop(lock)


def test_a_lock_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    """For example, root ran a scenario before; the message is one line with a remedy."""
    with pytest.raises(WorkshopError, match="MYTHICAL_STATE"), run_lock.run_lock(tmp_path, "first", blind=False):
        pytest.fail("it started")


def test_a_scenario_of_another_user_cannot_be_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says so; a scenario that ends by itself in the meantime counts as stopped."""
    lock = tmp_path / "scenario.lock"

    def fail(error: type[OSError], pid: int, _: int) -> None:
        assert pid == os.getpid()
        raise error

    with run_lock.run_lock(lock, "first", blind=False):
        monkeypatch.setattr(os, "kill", partial(fail, PermissionError))
        with pytest.raises(WorkshopError, match=f"another user .* {os.getpid()}"):
            run_lock.stop(lock)
        monkeypatch.setattr(os, "kill", partial(fail, ProcessLookupError))
        assert run_lock.stop(lock).name == "first"


def test_time_in_a_function_is_counted_once() -> None:
    """Recursive calls are not counted again."""
    inner = {"name": "f (a.py)", "value": 3, "children": [{"name": "f (a.py)", "value": 2, "children": []}]}
    assert _time_in({"name": "all", "value": 10, "children": [inner, {"name": "g", "value": 7}]}, "f (") == 3
