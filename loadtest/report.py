"""The report of a run from Locust's statistics and the counts: a table for people, JSON and CSV for programs."""

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loadtest.checks import Tally
from loadtest.gate import GateResult
from loadtest.load import LoadRun

COLUMNS = ("request", "requests", "failures", "per_s", "p50_ms", "p95_ms", "p99_ms", "most_ms")
TEXT_COLUMNS = 1  # left-aligned; numbers are right-aligned
# The text of a failure from a worker is wrapped in the name of Locust's own exception.
WRAPPED = re.compile(r"CatchResponseError\((['\"])(.*)\1\)", re.DOTALL)


@dataclass(frozen=True)
class Row:
    """Statistics of one kind of request, or of all: counts, rate per second, durations in milliseconds."""

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
    """The results of a run; the last of `rows` is the total; `broke` is the outcome of shape `break`."""

    run: dict[str, str | float]
    rows: tuple[Row, ...]
    checks: dict[str, tuple[int, int]]
    figures: dict[str, float]
    failures: dict[str, int]
    broke: str = ""


def figures_of(stats: Any, tally: Tally) -> dict[str, float]:
    """Return the metrics of the gate; `stats` is Locust's RequestStats."""
    return {
        "p95_ms": float(stats.total.get_response_time_percentile(0.95) or 0),
        "error_share": tally.error_share,
        "injected_share": tally.injected_share,
        "check_share": tally.check_share,
        "requests": float(tally.requests),
    }


def report_of(stats: Any, load: LoadRun, figures: dict[str, float]) -> Report:
    """Return the complete report."""
    settings, tally = load.settings, load.tally
    entries = [entry for _, entry in sorted(stats.entries.items())]
    begun, last = float(stats.total.start_time), stats.total.last_request_timestamp  # None without requests
    return Report(
        run={
            "run_id": settings.run_id,
            "host": settings.host,
            "shape": settings.shape,
            "users": settings.users,
            "seed": settings.seed,
            "seconds": float(last) - begun if last else 0.0,
        },
        rows=(*(_row(f"{entry.method} {entry.name}", entry) for entry in entries), _row("all", stats.total)),
        checks={name: (tally.passed[name], tally.failed[name]) for name in sorted({*tally.passed, *tally.failed})},
        figures=figures,
        failures={
            f"{error.method} {error.name}: {_text(error.error)}": error.occurrences for error in stats.errors.values()
        },
        broke=load.broke,
    )


def _row(request: str, entry: Any) -> Row:
    def percentile(share: float) -> float:
        return float(entry.get_response_time_percentile(share) or 0)

    return Row(
        request=request,
        requests=entry.num_requests,
        failures=entry.num_failures,
        per_s=float(entry.total_rps),
        p50_ms=percentile(0.5),
        p95_ms=percentile(0.95),
        p99_ms=percentile(0.99),
        most_ms=float(entry.max_response_time or 0),
    )


def _text(error: Any) -> str:
    """Return the text of a failure."""
    wrapped = WRAPPED.fullmatch(str(error))
    return wrapped[2] if wrapped else str(error)


def table(report: Report, lines: Sequence[GateResult] = ()) -> str:
    """Return the report as text, with the results of the gate if there are any."""
    parts = [
        _aligned([COLUMNS, *[_cells(row) for row in report.rows]]),
        _aligned([("check", "passed", "failed")] + [(name, str(a), str(b)) for name, (a, b) in report.checks.items()]),
    ]
    if report.failures:
        parts.append(_aligned([("failure", "times")] + [(text, str(n)) for text, n in report.failures.items()]))
    if lines:
        marks = [(x.figure, f"{x.value:.4g}", f"at {x.bound}", f"{x.limit:g}", _mark(x)) for x in lines]
        parts.append(_aligned([("gate", "value", "", "limit", ""), *marks]))
    if report.broke:
        parts.append(report.broke)
    return "\n\n".join(parts)


def write(report: Report, lines: Sequence[GateResult], folder: Path) -> tuple[Path, Path]:
    """Write `load.json` and `load.csv` into a folder, which is created if missing; return their paths."""
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


def _mark(line: GateResult) -> str:
    return "ok" if line.holds else "EXCEEDED"


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
