"""Checks: what is expected of an answer, said in words when it is not so, and how often each held."""

import json
from collections import Counter
from dataclasses import dataclass, field

# What the server says of its planted fault `null_name`; another 500 is none that was planted.
PLANTED_STATUS, PLANTED_TEXT = 500, "Could not store the name."
PLANTED = "planted fault null_name: the name was lost on its way (500)"


@dataclass(frozen=True)
class Answer:
    """An answer as the checks see it; `status` is 0 if there was none, `error` then says why."""

    status: int
    took_ms: float
    body: bytes = b""
    error: str = ""


@dataclass(frozen=True)
class Expectation:
    """What is expected of the answer to `method`: its status, its speed, and a list of names where `names`."""

    method: str
    status: int
    within_ms: float
    names: bool = False

    def judge(self, answer: Answer) -> dict[str, str | None]:
        """Give each check by its name: None if it holds, else a sentence that says what was expected.

        Sentences hold no measured number: Locust counts failures by their text.
        """
        return {
            f"{self.method} status": self._status(answer),
            f"{self.method} time": self._time(answer),
            **({f"{self.method} names": self._names(answer)} if self.names and answer.status == self.status else {}),
        }

    def _status(self, answer: Answer) -> str | None:
        if answer.status == self.status:
            return None
        got = f"got {answer.status}" if answer.status else f"got no answer ({answer.error})"
        return f"expected status {self.status}, {got}"

    def _time(self, answer: Answer) -> str | None:
        return None if answer.took_ms < self.within_ms else f"expected an answer within {self.within_ms:g} ms"

    def _names(self, answer: Answer) -> str | None:
        return None if are_names(answer.body) else 'expected a list of {"name": …}'


def are_names(body: bytes) -> bool:
    """Tell whether a body is the list of names that GET answers."""
    try:
        rows = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(rows, list) and all(isinstance(row, dict) and isinstance(row.get("name"), str) for row in rows)


def is_planted(method: str, answer: Answer) -> bool:
    """Tell whether this is the fault that the server plants in a tenth of the POSTs, and not a broken server."""
    if method != "POST" or answer.status != PLANTED_STATUS:
        return False
    try:
        problem = json.loads(answer.body)
    except (ValueError, RecursionError):
        return False
    return isinstance(problem, dict) and problem.get("detail") == PLANTED_TEXT


@dataclass
class Tally:
    """How often each check held and did not, and how many requests there were, failed, and met a planted fault."""

    passed: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    errors: int = 0
    planted: int = 0

    def note(self, verdicts: dict[str, str | None]) -> None:
        """Count one request by its checks. Slow is no error: the answer was right."""
        self.requests += 1
        for check, wrong in verdicts.items():
            (self.failed if wrong else self.passed)[check] += 1
        self.errors += any(wrong and not check.endswith(" time") for check, wrong in verdicts.items())

    def note_planted(self) -> None:
        """Count one request that met a planted fault; it says nothing about the checks."""
        self.requests += 1
        self.planted += 1

    def drain(self) -> dict[str, dict[str, int] | int]:
        """Give what was counted as plain values, for the message of a worker to its master, and begin anew."""
        drained: dict[str, dict[str, int] | int] = {
            "passed": dict(self.passed),
            "failed": dict(self.failed),
            "requests": self.requests,
            "errors": self.errors,
            "planted": self.planted,
        }
        self.clear()
        return drained

    def add(self, passed: dict[str, int], failed: dict[str, int], requests: int, errors: int, planted: int) -> None:
        """Add what a worker drained."""
        self.passed.update(passed)
        self.failed.update(failed)
        self.requests += requests
        self.errors += errors
        self.planted += planted

    def clear(self) -> None:
        """Forget everything, as at the start of a run."""
        self.passed.clear()
        self.failed.clear()
        self.requests = self.errors = self.planted = 0

    @property
    def error_share(self) -> float:
        """The share of requests, planted faults aside, whose answer was wrong or missing."""
        return self.errors / max(1, self.requests - self.planted)

    @property
    def check_share(self) -> float:
        """The share of checks that held; 1 if there were none."""
        total = self.passed.total() + self.failed.total()
        return self.passed.total() / total if total else 1.0

    @property
    def planted_share(self) -> float:
        """The share of all requests that met a planted fault."""
        return self.planted / max(1, self.requests)
