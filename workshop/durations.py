"""Lengths of time, as people write them: 90, 90s, 10m, 2h."""

import re

from common.faults.state import MAX_LEASE_S, MIN_LEASE_S
from workshop.errors import WorkshopError

UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
_WRITTEN = re.compile(r"(\d{1,6}(?:\.\d+)?)\s*([smh]?)")


def seconds(text: str) -> float:
    """Read a length of time; raises WorkshopError."""
    found = _WRITTEN.fullmatch(text.strip().lower())
    if not found:
        raise WorkshopError(f"{text!r} is no length of time; write it as in 90s, 10m or 2h")
    return float(found[1]) * UNITS[found[2]]


def lease(text: str) -> float:
    """Read for how long a fault is set; raises WorkshopError for a time that no service would accept."""
    lasts_s = seconds(text)
    if not MIN_LEASE_S <= lasts_s <= MAX_LEASE_S:
        raise WorkshopError(f"--for {text} is out of range; give {MIN_LEASE_S:.0f}s to {MAX_LEASE_S / 3600:.0f}h")
    return lasts_s


def written(length_s: float) -> str:
    """Write a length of time: 90 s, 10 min."""
    return f"{length_s:.0f} s" if length_s < 120 or length_s % 60 else f"{length_s / 60:.0f} min"  # noqa: PLR2004
