"""The table of a run."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Measurement:
    """One measurement: its key in the JSON line, its value and unit, and its meaning in a few words."""

    key: str
    value: float
    unit: str
    meaning: str


def table(figures: Sequence[Measurement]) -> str:
    """Return the measurements as aligned lines."""
    width = max(len(figure.meaning) for figure in figures)
    lines = [f"  {figure.meaning:<{width}}  {figure.value:>9,.2f} {figure.unit}".rstrip() for figure in figures]
    return "\n".join(["", *lines, ""])
