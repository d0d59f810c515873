"""The report of a run: a table for people, JSON and CSV for programs."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from loadtest.gate import Line

COLUMNS = ("request", "requests", "failures", "per_s", "p50_ms", "p95_ms", "p99_ms", "most_ms")
TEXT_COLUMNS = 1  # to the left; figures stand to the right


@dataclass(frozen=True)
class Row:
    """The figures of one kind of request, or of all: counts, rate per second, times in milliseconds."""

    request: str
    requests: int
    failures: int
    per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    most_ms: float


@dataclass(frozen=True)
class Report:
    """What a run came to; the last of `rows` is all together; `broke` says where `break` ended."""

    run: dict[str, str | float]
    rows: tuple[Row, ...]
    checks: dict[str, tuple[int, int]]
    figures: dict[str, float]
    failures: dict[str, int]
    broke: str = ""


def table(report: Report, lines: Sequence[Line] = ()) -> str:
    """Give the report as text, with the thresholds where there are any."""
    parts = [
        _aligned([COLUMNS, *[_cells(row) for row in report.rows]]),
        _aligned([("check", "held", "failed")] + [(name, str(a), str(b)) for name, (a, b) in report.checks.items()]),
    ]
    if report.failures:
        parts.append(_aligned([("failure", "times")] + [(text, str(n)) for text, n in report.failures.items()]))
    if lines:
        marks = [(x.figure, f"{x.value:.4g}", f"at {x.bound}", f"{x.limit:g}", _mark(x)) for x in lines]
        parts.append(_aligned([("gate", "value", "", "limit", ""), *marks]))
    if report.broke:
        parts.append(report.broke)
    return "\n\n".join(parts)


def write(report: Report, lines: Sequence[Line], folder: Path) -> tuple[Path, Path]:
    """Write `load.json` and `load.csv` into a folder, which is made; give their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    verdict = [{**asdict(line), "holds": line.holds} for line in lines]
    whole, rows = folder / "load.json", folder / "load.csv"
    whole.write_text(
        json.dumps({**asdict(report), "gate": verdict}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([getattr(row, name) for name in COLUMNS] for row in report.rows)
    rows.write_text(text.getvalue(), encoding="utf-8")
    return whole, rows


def _mark(line: Line) -> str:
    return "holds" if line.holds else "CROSSED"


def _cells(row: Row) -> tuple[str, ...]:
    values = [getattr(row, name) for name in COLUMNS]
    return tuple(f"{value:.1f}" if isinstance(value, float) else str(value) for value in values)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < TEXT_COLUMNS else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
