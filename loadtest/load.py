"""State that the users of one process share through Locust's environment: settings, telemetry and counts."""

from collections import defaultdict
from dataclasses import dataclass, field, replace
from itertools import count

from loadtest.checks import INJECTED, Answer, Expectation, Tally, is_injected
from loadtest.settings import Settings
from loadtest.telemetry import Call, Telemetry


@dataclass
class LoadRun:
    """The run in this process; `numbers` counts users by kind, `broke` is the outcome of shape `break`."""

    settings: Settings
    telemetry: Telemetry
    tally: Tally = field(default_factory=Tally)
    numbers: "defaultdict[str, count[int]]" = field(default_factory=lambda: defaultdict(count))
    broke: str = ""

    def start(self, run_id: str, seed: str) -> None:
        """Start a run: reset the counts, set its id, and give users the same random numbers as in the last run."""
        self.settings = replace(self.settings, run_id=run_id, seed=seed)
        self.telemetry.name_run(run_id)
        self.tally.clear()
        self.numbers.clear()
        self.broke = ""

    def judge(self, kind: str, call: Call, expected: Expectation, answer: Answer) -> str | None:
        """Count a response; return the failure text for Locust, or None if it is as expected."""
        if is_injected(expected.method, answer):
            self.tally.record_injected()
            self.telemetry.record_injected(call, kind, INJECTED)
            return None if self.settings.tolerate_injected else INJECTED
        verdicts = expected.judge(answer)
        self.tally.record(verdicts)
        self.telemetry.record_checks(call, kind, verdicts)
        return "; ".join(wrong for wrong in verdicts.values() if wrong) or None
