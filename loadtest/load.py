"""State that the users of one process share through Locust's environment: settings, telemetry and counts."""

from collections import defaultdict
from dataclasses import dataclass, field, replace
from itertools import count

from loadtest.checks import PLANTED, Answer, Expectation, Tally, is_planted
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
        if is_planted(expected.method, answer):
            self.tally.record_planted()
            self.telemetry.record_planted(call, kind, PLANTED)
            return None if self.settings.tolerate_planted else PLANTED
        verdicts = expected.judge(answer)
        self.tally.record(verdicts)
        self.telemetry.record_checks(call, kind, verdicts)
        return "; ".join(wrong for wrong in verdicts.values() if wrong) or None
