"""Results: Locust's statistics and the tally as the report's figures."""

import re
from typing import Any

from loadtest.checks import Tally
from loadtest.load import Load
from loadtest.report import Report, Row

WRAPPED = re.compile(r"CatchResponseError\((['\"])(.*)\1\)", re.DOTALL)


def figures_of(stats: Any, tally: Tally) -> dict[str, float]:
    """Give what the gate asks for; `stats` is Locust's RequestStats."""
    return {
        "p95_ms": float(stats.total.get_response_time_percentile(0.95) or 0),
        "error_share": tally.error_share,
        "planted_share": tally.planted_share,
        "check_share": tally.check_share,
        "requests": float(tally.requests),
    }


def report_of(stats: Any, load: Load, figures: dict[str, float]) -> Report:
    """Give the whole report."""
    settings, tally = load.settings, load.tally
    entries = [entry for _, entry in sorted(stats.entries.items())]
    begun, last = float(stats.total.start_time), stats.total.last_request_timestamp  # None where nothing was asked
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
    """Give the text of a failure; from a worker it comes wrapped in the name of Locust's own exception."""
    wrapped = WRAPPED.fullmatch(str(error))
    return wrapped[2] if wrapped else str(error)
