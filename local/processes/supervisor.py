"""Starts the units of a plan in the order of their dependencies, watches them, and stops them without data loss."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from local.errors import LocalError
from local.plan import Entry, Plan
from local.processes.program import Unit

# With these, the demo has ended ten seconds after Ctrl-C: services flush within five, then the rest stops.
SERVICES_GRACE_S = 6.0
OTHERS_GRACE_S = 3.0
START_S = 90.0
POLL_S = 0.05


@dataclass
class Progress:
    """The state of one entry: when it was launched, after how many seconds of the run it was ready, why it failed."""

    launched_at: float | None = None
    ready_after_s: float | None = None
    failure: str = ""


class Supervisor:
    """Runs one plan. Use it from the main thread: children end with the thread that started them."""

    def __init__(self, plan: Plan) -> None:
        self.progress = {entry.name: Progress() for entry in plan.entries}
        self._entries = plan.entries
        self._begun = time.monotonic()
        for entry in plan.entries:
            if entry.unit is None:
                self.progress[entry.name] = Progress(0.0, 0.0)

    @property
    def all_ready(self) -> bool:
        """Whether each unit is ready, but for an optional one that failed."""
        return all(each.ready_after_s is not None or each.failure for each in self.progress.values())

    def advance(self) -> None:
        """Launch what can be launched, check what has become ready, and return immediately.

        Raises LocalError, with the log's tail, if a unit has ended or does not become ready.
        """
        for entry, unit in self._units():
            each = self.progress[entry.name]
            if each.launched_at is None and all(self._is_ready(need) for need in entry.needs):
                each.launched_at = time.monotonic()
                try:
                    unit.launch()
                except LocalError as fault:
                    self._fail(entry, each, fault)
            elif each.launched_at is not None and not each.failure:
                self._observe(entry, unit, each, time.monotonic() - each.launched_at)

    def stop(self, hurry: Callable[[], bool]) -> None:
        """Stop the services, then the rest; kill what takes too long, or everything when `hurry` returns true."""
        services = [unit for entry, unit in self._units() if entry.service]
        others = [unit for entry, unit in self._units() if not entry.service]
        for units, grace_s in ((services, SERVICES_GRACE_S), (others, OTHERS_GRACE_S)):
            for unit in units:
                unit.process.ask_to_stop()
            deadline = time.monotonic() + grace_s
            while any(unit.process.running for unit in units) and time.monotonic() < deadline and not hurry():
                time.sleep(POLL_S)
            for unit in units:
                unit.stop(grace_s=0)

    def _units(self) -> list[tuple[Entry, Unit]]:
        return [(entry, entry.unit) for entry in self._entries if entry.unit is not None]

    def _is_ready(self, name: str) -> bool:
        return self.progress[name].ready_after_s is not None

    def _observe(self, entry: Entry, unit: Unit, each: Progress, age_s: float) -> None:
        if not unit.process.running:
            self._fail(entry, each, unit.process.fault(f"ended after {age_s:.0f} s ({_ending(unit)})"))
        elif each.ready_after_s is None and unit.is_ready():
            each.ready_after_s = time.monotonic() - self._begun
        elif each.ready_after_s is None and age_s > START_S:
            self._fail(entry, each, unit.process.fault(f"was not ready after {age_s:.0f} s"))

    def _fail(self, entry: Entry, each: Progress, fault: LocalError) -> None:
        if not entry.optional:
            raise fault
        each.failure = str(fault)


def _ending(unit: Unit) -> str:
    code = unit.process.exit_code or 0
    return f"signal {-code}" if code < 0 else f"exit code {code}"
