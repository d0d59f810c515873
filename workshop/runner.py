"""Run a scenario: set its faults, renew them while it lasts, and restore them however it ends."""

import signal
import threading
import time
from collections.abc import Callable, Iterable
from types import FrameType

from workshop import WorkshopError
from workshop.fault_client import FaultClient, format_duration
from workshop.scenario import Scenario

# If this process is killed, the services restore the faults after LEASE_S; it is renewed three times in that time.
LEASE_S = 30.0
RENEW_S = 10.0
POLL_S = 2.0

Print = Callable[[str], None]
VisibleSigns = Callable[[], Iterable[str]]


class Runner:
    """One run of a scenario; `blind` hides the names of its faults in what it prints and the services report.

    `visible_signs` returns a sentence for each symptom that shows now; a run that is not blind prints each once.
    """

    def __init__(
        self,
        scenario: Scenario,
        client: FaultClient,
        output: Print,
        *,
        blind: bool = False,
        visible_signs: VisibleSigns | None = None,
    ) -> None:
        self._scenario = scenario
        self._client = client
        self._print = output
        self._blind = blind
        self._visible_signs = None if blind else visible_signs
        self._printed: set[str] = set()
        self._stop = threading.Event()

    def stop(self) -> None:
        """Stop it early; may be called in a signal handler."""
        self._stop.set()

    def run(self, start_s: float, lasts_s: float) -> bool:
        """Start after `start_s` seconds, stop `lasts_s` later; return whether it finished. Raises WorkshopError."""
        self._client.states()  # raises before anything is printed if the suite is not running
        self._print(self._scenario.complaint)
        self._print("A fault starts soon." if self._blind else self._summary(start_s))
        try:
            if not self._stop.wait(start_s):
                self._print(f"The scenario starts now and lasts {format_duration(lasts_s)}.")
                self._keep(time.monotonic() + lasts_s)
        finally:
            self._clear()
        self._print(f"Scenario {'stopped' if self._stop.is_set() else 'finished'}. Faults restored.")
        return not self._stop.is_set()

    def _keep(self, end: float) -> None:
        """Renew the faults; tolerate a service that is too slow for one renewal, perhaps because of a fault."""
        set_until = 0.0
        while not self._stop.is_set() and (left := end - time.monotonic()) > 0:
            sent = time.monotonic()
            try:
                for fault, strength in self._scenario.faults.items():
                    self._client.set(fault, strength, max(min(LEASE_S, left), 1.0), blind=self._blind)
                set_until = sent + LEASE_S
            except WorkshopError:
                if time.monotonic() > set_until:
                    raise
            self._watch_until(time.monotonic() + min(RENEW_S, left))

    def _watch_until(self, end: float) -> None:
        """Wait, and print which symptoms become visible in the meantime."""
        while not self._stop.is_set() and (left := end - time.monotonic()) > 0:
            for sign in self._visible_signs() if self._visible_signs else ():
                if sign not in self._printed:
                    self._printed.add(sign)
                    self._print(f"seen: {sign}")
            self._stop.wait(min(POLL_S, left))

    def _clear(self) -> None:
        for fault in self._scenario.faults:
            try:
                self._client.clear(fault)
            except WorkshopError as error:
                self._print(f"{error}; its faults are restored automatically within {format_duration(LEASE_S)}")

    def _summary(self, start_s: float) -> str:
        faults = ", ".join(f"{fault.name} {strength:g}" for fault, strength in self._scenario.faults.items())
        return f"In {format_duration(start_s)}: {faults}."


def stop_on_signals(runner: Runner) -> None:
    """Stop the run in good order on Ctrl-C, SIGTERM and SIGHUP."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        runner.stop()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
