"""What the users of one process share: settings, telemetry and the tally, found through Locust's environment."""

from collections import defaultdict
from dataclasses import dataclass, field, replace
from itertools import count

from loadtest.checks import PLANTED, Answer, Expectation, Tally, is_planted
from loadtest.settings import Settings
from loadtest.telemetry import Call, Telemetry


@dataclass
class Load:
    """The run as this process sees it; `numbers` counts users by kind, `broke` is what `break` found."""

    settings: Settings
    telemetry: Telemetry
    tally: Tally = field(default_factory=Tally)
    numbers: "defaultdict[str, count[int]]" = field(default_factory=lambda: defaultdict(count))
    broke: str = ""

    def begin(self, run_id: str, seed: str) -> None:
        """Begin a run: figures from nothing under its own name, and users who draw as those of the last run did."""
        self.settings = replace(self.settings, run_id=run_id, seed=seed)
        self.telemetry.name_run(run_id)
        self.tally.clear()
        self.numbers.clear()
        self.broke = ""

    def judge(self, kind: str, call: Call, expected: Expectation, answer: Answer) -> str | None:
        """Count an answer; give the text of the failure it is to Locust, or None if it is as expected."""
        if is_planted(expected.method, answer):
            self.tally.note_planted()
            self.telemetry.note_planted(call, kind, PLANTED)
            return None if self.settings.tolerate_planted else PLANTED
        verdicts = expected.judge(answer)
        self.tally.note(verdicts)
        self.telemetry.note_checks(call, kind, verdicts)
        return "; ".join(wrong for wrong in verdicts.values() if wrong) or None
