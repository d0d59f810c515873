"""The running stack: nothing fires by default, and each alert fires while its scenario runs, and clears afterwards.

Takes some twenty-five minutes, most of them waiting: by default nothing may fire for longer than a wave of the
requester, and what waited in the queue has to be recorded before messages are fresh again. ALERTS_SUITE=1 asks for it.
"""

import os
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from tests.stack.backends import Backends, addresses
from tests.stack.scenario_running import running
from workshop import scenario
from workshop.fault_client import FaultClient
from workshop.stack import Stack

# A wave of the requester takes 155 s. A ticket looks back for three minutes, and what was late has to be worked off.
QUIET_S = 170.0
CLEARS_S = 600.0
LOOK_S = 1.0
# Side by side, where none hides the alert of another: slow or silent requests make few messages, and those that nobody
# records are not late. The last one leaves messages that are late once they are recorded.
ROUNDS = (
    ("bad-release", "slow-lists", "lost-events", "lost-samples"),
    ("late-records", "no-news"),
    ("standstill",),
)

pytestmark = [
    pytest.mark.timeout(CLEARS_S + QUIET_S + 600),
    pytest.mark.skipif("ALERTS_SUITE" not in os.environ, reason="it takes 25 minutes: ALERTS_SUITE=1 asks for it"),
]


@pytest.fixture
def asked(stack: Backends) -> Stack:
    """The stack, as the workshop asks it."""
    return Stack(addresses(stack))


def test_nothing_fires_by_default(asked: Stack, switches: FaultClient) -> None:
    """With the planted faults at the strength that they have when nobody says anything."""
    assert [state.fault.name for state in switches.states() if state.strength != state.fault.default] == []
    until(lambda: not asked.firing(), CLEARS_S, "end of alerts from before")
    end = time.monotonic() + QUIET_S
    while time.monotonic() < end:
        assert asked.firing() == set()
        time.sleep(LOOK_S)


@pytest.mark.parametrize("names", ROUNDS, ids=" ".join)
def test_each_alert_fires_while_its_scenario_runs_and_clears_afterwards(
    names: tuple[str, ...], asked: Stack, switches: FaultClient
) -> None:
    """Within the time that its file gives it; a fault that nobody is told of before it is over teaches nothing."""
    wanted = {alert: name for name in names for alert in scenario.read(name).alerts}
    lasts_s = min(scenario.read(name).lasts_s for name in names)
    until(lambda: not asked.firing() & wanted.keys(), CLEARS_S, f"quiet before {wanted}")
    with ExitStack() as scenarios:
        for name in names:
            scenarios.enter_context(running(name, switches, lasts_s))
        told = watched("fires", wanted, lasts_s, lambda alert: alert in asked.firing())
    assert told.keys() == wanted.keys(), f"within {lasts_s:g} s there fired {told}"
    told = watched("clear", wanted, CLEARS_S, lambda alert: alert not in asked.firing())
    assert told.keys() == wanted.keys(), f"{CLEARS_S:g} s after the end there cleared {told}"


def watched(what: str, wanted: dict[str, str], deadline_s: float, seen: Callable[[str], bool]) -> dict[str, float]:
    """Say after how many seconds each alert was seen so for the first time; those that were not are left out."""
    begun, told = time.monotonic(), dict[str, float]()
    while told.keys() != wanted.keys() and time.monotonic() < begun + deadline_s:
        for alert in sorted(wanted.keys() - told.keys()):
            if seen(alert):
                told[alert] = round(time.monotonic() - begun)
                print(f"{wanted[alert]}: {alert} {what} after {told[alert]:.0f} s", flush=True)  # noqa: T201 - pytest -s
        time.sleep(LOOK_S)
    return told


def until(over: Callable[[], bool], deadline_s: float, what: str) -> None:
    """Return when it is over; fail after the deadline."""
    end = time.monotonic() + deadline_s
    while not over():
        if time.monotonic() > end:
            pytest.fail(f"no {what} within {deadline_s:g} s")
        time.sleep(LOOK_S)
