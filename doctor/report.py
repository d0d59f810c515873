"""What the doctor found, as data: findings about this machine, and a cell for each service and signal."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

# Worth saying but no reason to fail: NOTE. Of a cell: LATE is too old, MISSING never came, OFF is not asked for, and
# SENT goes to a back end that cannot be asked from here, with no fault up to there.
OK, NOTE, BROKEN = "ok", "note", "broken"
FRESH, LATE, MISSING, OFF, SENT = "fresh", "late", "missing", "off", "sent"
WELL, SICK, UNUSABLE = 0, 1, 2


class Unusable(Exception):
    """What the doctor was given cannot be used; its text is one line for the reader."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: what, what is the case, how bad it is, and what to do."""

    what: str
    said: str
    state: str = OK
    remedy: str = ""


@dataclass(frozen=True)
class Fault:
    """The first hop on a signal's way that is broken, why, and what to do."""

    hop: str
    said: str
    remedy: str


@dataclass(frozen=True)
class Cell:
    """A signal of a service: seconds since the latest arrived (None if none did), and what keeps it away."""

    service: str
    signal: str
    state: str
    age_s: float | None = None
    fault: Fault | None = None


@dataclass(frozen=True)
class Report:
    """All that was found; `suite` is what runs here: none, docker or local."""

    suite: str
    findings: Sequence[Finding] = ()
    cells: Sequence[Cell] = ()

    @property
    def status(self) -> int:
        """The exit status: 0 if all is well, 1 if something is broken."""
        broken = any(finding.state == BROKEN for finding in self.findings)
        return SICK if broken or any(cell.state in (LATE, MISSING) for cell in self.cells) else WELL

    def as_json(self) -> dict[str, Any]:
        """Return it as scripts read it."""
        return {"suite": self.suite, "status": self.status} | {
            "findings": [asdict(finding) for finding in self.findings],
            "cells": [asdict(cell) for cell in self.cells],
        }
