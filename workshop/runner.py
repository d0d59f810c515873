"""Runs a scenario: sets its faults, keeps them set while it lasts, and puts them back however it ends."""

import signal
import threading
import time
from collections.abc import Callable, Iterable
from types import FrameType

from workshop.durations import written
from workshop.errors import WorkshopError
from workshop.scenario import Scenario
from workshop.switches import Switches

# Should this process be killed, the faults end by themselves so much later; renewed three times in that time.
LEASE_S = 30.0
RENEW_S = 10.0
LOOK_S = 2.0

Say = Callable[[str], None]
Seen = Callable[[], Iterable[str]]


class Runner:
    """One run of one scenario; `blind` keeps the names of its faults out of all that it and the services tell.

    `seen` gives a sentence for each sign of trouble that is there now; a run that is not blind says each of them once.
    """

    def __init__(
        self, scenario: Scenario, switches: Switches, say: Say, *, blind: bool = False, seen: Seen | None = None
    ) -> None:
        self._scenario = scenario
        self._switches = switches
        self._say = say
        self._blind = blind
        self._seen = None if blind else seen
        self._said: set[str] = set()
        self._stop = threading.Event()

    def stop(self) -> None:
        """End it early."""
        self._stop.set()

    def run(self, start_s: float, lasts_s: float) -> bool:
        """Begin after `start_s` seconds, end after `lasts_s` more; tell whether it got there. Raises WorkshopError."""
        self._switches.states()  # refused before anything is said: the suite may not run
        self._say(self._scenario.told)
        self._say("Something will be wrong soon." if self._blind else self._about(start_s))
        try:
            if not self._stop.wait(start_s):
                self._say(f"It begins now, and lasts {written(lasts_s)}.")
                self._keep(time.monotonic() + lasts_s)
        finally:
            self._clear()
        self._say("It is over, the faults are as before." if not self._stop.is_set() else "Ended; as before.")
        return not self._stop.is_set()

    def _keep(self, end: float) -> None:
        """Set the faults again and again; one that is once too slow for that, perhaps by a fault, ends nothing."""
        held_until = 0.0
        while not self._stop.is_set() and (left := end - time.monotonic()) > 0:
            asked = time.monotonic()
            try:
                for fault, strength in self._scenario.faults.items():
                    self._switches.set(fault, strength, max(min(LEASE_S, left), 1.0), blind=self._blind)
                held_until = asked + LEASE_S
            except WorkshopError:
                if time.monotonic() > held_until:
                    raise
            self._look_until(time.monotonic() + min(RENEW_S, left))

    def _look_until(self, end: float) -> None:
        """Wait, and say which symptoms have come true meanwhile."""
        while not self._stop.is_set() and (left := end - time.monotonic()) > 0:
            for sign in self._seen() if self._seen else ():
                if sign not in self._said:
                    self._said.add(sign)
                    self._say(f"seen: {sign}")
            self._stop.wait(min(LOOK_S, left))

    def _clear(self) -> None:
        for fault in self._scenario.faults:
            try:
                self._switches.clear(fault)
            except WorkshopError as gone:
                self._say(f"{gone}; what was set there ends by itself within {written(LEASE_S)}")

    def _about(self, start_s: float) -> str:
        faults = ", ".join(f"{fault.name} {strength:g}" for fault, strength in self._scenario.faults.items())
        return f"In {written(start_s)}: {faults}."


def end_on_signals(runner: Runner) -> None:
    """Have Ctrl-C and SIGTERM end the run in good order."""

    def end(_number: int, _frame: FrameType | None) -> None:
        runner.stop()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
