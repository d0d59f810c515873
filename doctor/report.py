"""The doctor's report: findings about this machine, a cell for each service and signal, and both as text."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any

# A NOTE does not fail the report. A cell is LATE if its latest data is too old, MISSING if none arrived, OFF if the
# signal is switched off, IDLE if the service has no requests, and SENT if it goes to a backend that cannot be queried
# from here, with no fault on the path.
OK, NOTE, BROKEN = "ok", "note", "broken"
FRESH, LATE, MISSING, OFF, IDLE, SENT = "fresh", "late", "missing", "off", "idle", "sent"
PASSED, FAILED, UNUSABLE = 0, 1, 2

WIDTH = 80
HEADINGS = {
    "none": "Before a start with Docker:",
    "docker": "The suite runs with Docker.",
    "kubernetes": "The suite in a cluster:",
}
LABELS = {OK: "ok", NOTE: "note", BROKEN: "WRONG"}
SERVICE_WIDTH = 24


class Unusable(Exception):
    """The doctor's input is invalid; the text is one line for the user."""


@dataclass(frozen=True)
class Finding:
    """The result of one check: its subject, what was found, how severe it is, and a remedy."""

    what: str
    said: str
    state: str = OK
    remedy: str = ""


@dataclass(frozen=True)
class Fault:
    """The first broken stage on a signal's path, the cause, and a remedy."""

    hop: str
    said: str
    remedy: str


@dataclass(frozen=True)
class Cell:
    """A signal of a service: seconds since its latest data arrived (None if none did), and the fault that stops it."""

    service: str
    signal: str
    state: str
    age_s: float | None = None
    fault: Fault | None = None


@dataclass(frozen=True)
class Report:
    """Everything that was found; `suite` is what runs: none, docker, kubernetes, or local."""

    suite: str
    findings: Sequence[Finding] = ()
    cells: Sequence[Cell] = ()

    @property
    def status(self) -> int:
        """The exit status: 0 if everything works, 1 if something is broken."""
        broken = any(finding.state == BROKEN for finding in self.findings)
        return FAILED if broken or any(cell.state in (LATE, MISSING) for cell in self.cells) else PASSED

    def as_json(self) -> dict[str, Any]:
        """Return the report for scripts."""
        return {"suite": self.suite, "status": self.status} | {
            "findings": [asdict(finding) for finding in self.findings],
            "cells": [asdict(cell) for cell in self.cells],
        }


def text(report: Report) -> Iterator[str]:
    """Yield the lines of the report, at most 80 columns wide."""
    yield HEADINGS.get(report.suite, "The suite runs without Docker.")
    if report.cells:
        yield from _table(report.cells)
    for finding, after in zip_longest(report.findings, report.findings[1:]):
        yield from _wrapped(f"{LABELS[finding.state]:5}  {finding.what}: {finding.said}", 7)
        if finding.state != OK and (after is None or after.remedy != finding.remedy):
            yield from _remedy(finding.remedy, 7)
    cells_by_fault: dict[Fault, list[Cell]] = {}
    for cell in report.cells:
        if cell.fault:
            cells_by_fault.setdefault(cell.fault, []).append(cell)
    for fault, cells in cells_by_fault.items():
        yield from _fault(fault, cells)
    yield ""
    yield "All checks passed." if report.status == PASSED else "Some checks failed."


def _table(cells: Sequence[Cell]) -> Iterator[str]:
    """Yield a line for each service with the age of the latest data of each signal."""
    signals = list(dict.fromkeys(cell.signal for cell in cells))
    yield ""
    yield f"{'latest data':{SERVICE_WIDTH}}" + "".join(f"{signal:>12}" for signal in signals)
    for service in dict.fromkeys(cell.service for cell in cells):
        ages = (_age(cell) for cell in cells if cell.service == service)
        yield f"{service:{SERVICE_WIDTH}}" + "".join(f"{age:>12}" for age in ages)


def _age(cell: Cell) -> str:
    if cell.age_s is None:
        return cell.state.upper() if cell.state == MISSING else cell.state
    return f"{cell.age_s:.0f} s ago" if cell.state == FRESH else f"LATE {cell.age_s:.0f} s"


def _fault(fault: Fault, cells: Sequence[Cell]) -> Iterator[str]:
    yield ""
    by_service: dict[str, list[str]] = {}
    for cell in cells:
        by_service.setdefault(cell.service, []).append(cell.signal)
    for service, signals in by_service.items():
        yield from _wrapped(f"{', '.join(signals)} of {service}", 2)
    yield from _wrapped(f"  broken at: {fault.hop}", 13)
    yield from _wrapped(f"  because:   {fault.said}", 13)
    yield from _remedy(fault.remedy, 2)


def _remedy(remedy: str, indent: int) -> Iterator[str]:
    # One command per line, so that each can be copied; a long one continues after a backslash.
    for number, part in enumerate(remedy.split("; ") if remedy else ()):
        line = f"{' ' * indent}{'do:' if number == 0 else '':10} {part}"
        if part.startswith(("docker ", "kubectl ")):
            *begun, last = _wrapped(line, indent + 13, WIDTH - 2)
            yield from (f"{each} \\" for each in begun)
            yield last
        else:
            yield from _wrapped(line, indent + 11)


def _wrapped(line: str, indent: int, width: int = WIDTH) -> list[str]:
    # Words are not broken, so that URLs can be copied; a word longer than the line exceeds the width.
    return textwrap.wrap(line, width, subsequent_indent=" " * indent, break_on_hyphens=False) or [""]
