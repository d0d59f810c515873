"""The report as text, at most 80 columns wide."""

import textwrap
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from doctor.report import BROKEN, FRESH, MISSING, NOTE, OK, Cell, Fault, Finding, Report

WIDTH = 80
NAMES = {"none": "Before a start with Docker:", "docker": "The suite runs with Docker."}
WORDS = {OK: "ok", NOTE: "note", BROKEN: "WRONG"}
FIRST = 24


def text(report: Report) -> Iterator[str]:
    """Give the report line by line."""
    yield NAMES.get(report.suite, "The suite runs without Docker.")
    if report.cells:
        yield from table(report.cells)
    for finding, after in zip_longest(report.findings, report.findings[1:]):
        yield from _finding(finding)
        if finding.state != OK and (after is None or after.remedy != finding.remedy):
            yield from _remedy(finding.remedy, 7)
    for fault, cells in faults(report.cells).items():
        yield from _fault(fault, cells)
    yield ""
    yield "All is well." if report.status == 0 else "Not all is well."


def table(cells: Sequence[Cell]) -> Iterator[str]:
    """Give a line for each service: how long ago the latest of each signal arrived."""
    signals = list(dict.fromkeys(cell.signal for cell in cells))
    yield ""
    yield f"{'the latest arrived':{FIRST}}" + "".join(f"{signal:>12}" for signal in signals)
    for service in dict.fromkeys(cell.service for cell in cells):
        words = (_age(cell) for cell in cells if cell.service == service)
        yield f"{service:{FIRST}}" + "".join(f"{word:>12}" for word in words)


def faults(cells: Sequence[Cell]) -> dict[Fault, list[Cell]]:
    """Gather the cells that one and the same fault keeps away."""
    found: dict[Fault, list[Cell]] = {}
    for cell in cells:
        if cell.fault:
            found.setdefault(cell.fault, []).append(cell)
    return found


def _age(cell: Cell) -> str:
    if cell.age_s is None:
        return cell.state.upper() if cell.state == MISSING else cell.state
    return f"{cell.age_s:.0f} s ago" if cell.state == FRESH else f"LATE {cell.age_s:.0f} s"


def _finding(finding: Finding) -> Iterator[str]:
    yield from _wrapped(f"{WORDS[finding.state]:5}  {finding.what}: {finding.said}", 7)


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
    # Each command on a line of its own, to be copied; one that is too long goes on after a backslash.
    for number, part in enumerate(remedy.split("; ") if remedy else ()):
        line = f"{' ' * indent}{'do:' if number == 0 else '':10} {part}"
        if part.startswith("docker "):
            *begun, last = _wrapped(line, indent + 13, WIDTH - 2)
            yield from (f"{each} \\" for each in begun)
            yield last
        else:
            yield from _wrapped(line, indent + 11)


def _wrapped(line: str, indent: int, width: int = WIDTH) -> list[str]:
    # Words are never cut, so that an address can be copied; only a word longer than the line is.
    return textwrap.wrap(line, width, subsequent_indent=" " * indent, break_on_hyphens=False) or [""]
