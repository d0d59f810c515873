"""The table of a run."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One figure: its key in the JSON line, its value and unit, and what it means in a few words."""

    key: str
    value: float
    unit: str
    meaning: str


def table(figures: Sequence[Figure]) -> str:
    """Give the figures as aligned lines."""
    width = max(len(figure.meaning) for figure in figures)
    lines = [f"  {figure.meaning:<{width}}  {figure.value:>9,.2f} {figure.unit}".rstrip() for figure in figures]
    return "\n".join(["", *lines, ""])
