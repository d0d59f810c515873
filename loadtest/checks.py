"""Checks of responses: the expectations, a sentence for each failure, and counts."""

import json
from collections import Counter
from dataclasses import dataclass, field

# The server's response for the injected fault `null_name`; any other 500 is a real failure.
INJECTED_STATUS, INJECTED_TEXT = 500, "Could not store the name."
INJECTED = "injected fault null_name: the name was not stored (500)"


@dataclass(frozen=True)
class Answer:
    """A response; `status` is 0 if there was none, and `error` is then the reason."""

    status: int
    took_ms: float
    body: bytes = b""
    error: str = ""


@dataclass(frozen=True)
class Expectation:
    """The expected response to `method`: status, duration, and a list of names if `names`."""

    method: str
    status: int
    within_ms: float
    names: bool = False

    def judge(self, answer: Answer) -> dict[str, str | None]:
        """Return the result of each check by name: None if it passed, else a sentence with the expectation.

        Sentences contain no measured values, because Locust groups failures by text.
        """
        return {
            f"{self.method} status": self._status(answer),
            f"{self.method} time": self._time(answer),
            **({f"{self.method} names": self._names(answer)} if self.names and answer.status == self.status else {}),
        }

    def _status(self, answer: Answer) -> str | None:
        if answer.status == self.status:
            return None
        got = f"got {answer.status}" if answer.status else f"got no response ({answer.error})"
        return f"expected status {self.status}, {got}"

    def _time(self, answer: Answer) -> str | None:
        return None if answer.took_ms < self.within_ms else f"expected a response within {self.within_ms:g} ms"

    def _names(self, answer: Answer) -> str | None:
        return None if are_names(answer.body) else 'expected a list of {"name": …}'


def are_names(body: bytes) -> bool:
    """Return whether a body is a list of names, as GET returns it."""
    try:
        rows = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(rows, list) and all(isinstance(row, dict) and isinstance(row.get("name"), str) for row in rows)


def is_injected(method: str, answer: Answer) -> bool:
    """Return whether this is the fault that is injected into a tenth of the POSTs, and not a failure."""
    if method != "POST" or answer.status != INJECTED_STATUS:
        return False
    try:
        problem = json.loads(answer.body)
    except (ValueError, RecursionError):
        return False
    return isinstance(problem, dict) and problem.get("detail") == INJECTED_TEXT


@dataclass
class Tally:
    """Counts of passed and failed checks, and of requests: all, failed, and with an injected fault."""

    passed: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    errors: int = 0
    injected: int = 0

    def record(self, verdicts: dict[str, str | None]) -> None:
        """Count one request by its checks. A slow response is not an error."""
        self.requests += 1
        for check, wrong in verdicts.items():
            (self.failed if wrong else self.passed)[check] += 1
        self.errors += any(wrong and not check.endswith(" time") for check, wrong in verdicts.items())

    def record_injected(self) -> None:
        """Count one request with an injected fault, which does not count for the checks."""
        self.requests += 1
        self.injected += 1

    def drain(self) -> dict[str, dict[str, int] | int]:
        """Return the counts as plain values for the message from a worker to its master, and reset them."""
        drained: dict[str, dict[str, int] | int] = {
            "passed": dict(self.passed),
            "failed": dict(self.failed),
            "requests": self.requests,
            "errors": self.errors,
            "injected": self.injected,
        }
        self.clear()
        return drained

    def add(self, passed: dict[str, int], failed: dict[str, int], requests: int, errors: int, injected: int) -> None:
        """Add the counts that a worker drained."""
        self.passed.update(passed)
        self.failed.update(failed)
        self.requests += requests
        self.errors += errors
        self.injected += injected

    def clear(self) -> None:
        """Reset all counts."""
        self.passed.clear()
        self.failed.clear()
        self.requests = self.errors = self.injected = 0

    @property
    def error_share(self) -> float:
        """The share of requests with a wrong or missing response, without those with an injected fault."""
        return self.errors / max(1, self.requests - self.injected)

    @property
    def check_share(self) -> float:
        """The share of checks that passed; 1 if there were none."""
        total = self.passed.total() + self.failed.total()
        return self.passed.total() / total if total else 1.0

    @property
    def injected_share(self) -> float:
        """The share of all requests with an injected fault."""
        return self.injected / max(1, self.requests)
