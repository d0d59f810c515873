"""The gate: the figures of a run against the thresholds of one file."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from common.core.env import SettingsError

FILE = Path(__file__).with_name("gate.toml")
MOST, LEAST = ("p95_ms", "error_share", "planted_share"), ("check_share", "requests")
RUN = ("users", "rate", "time", "shape", "seed")


@dataclass(frozen=True)
class Gate:
    """What is run unless variables say otherwise, and the most and the least that each figure may be."""

    run: dict[str, str]
    most: dict[str, float]
    least: dict[str, float]


@dataclass(frozen=True)
class Line:
    """One figure against its threshold."""

    figure: str
    value: float
    bound: str
    limit: float

    @property
    def holds(self) -> bool:
        """Whether the figure is on the right side; on the threshold itself it is."""
        return self.value <= self.limit if self.bound == "most" else self.value >= self.limit


def read_gate(path: Path = FILE) -> Gate:
    """Read the thresholds; raises SettingsError for a file that is not there, unreadable, or has unknown words."""
    try:
        text = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise SettingsError(f"{path}: {fault.strerror}") from fault
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise SettingsError(f"{path} is no TOML: {fault}") from fault
    run = {name: str(value) for name, value in _table(path, text, "run", RUN).items()}
    return Gate(run, _numbers(path, text, "most", MOST), _numbers(path, text, "least", LEAST))


def judge(gate: Gate, figures: dict[str, float]) -> list[Line]:
    """Compare each figure that has a threshold."""
    return [Line(name, figures[name], "most", limit) for name, limit in gate.most.items()] + [
        Line(name, figures[name], "least", limit) for name, limit in gate.least.items()
    ]


def _table(path: Path, text: dict[str, object], name: str, known: tuple[str, ...]) -> dict[str, object]:
    table = text.get(name, {})
    if not isinstance(table, dict):
        raise SettingsError(f"{path}: {name} is no table")
    for word in table:
        if word not in known:
            raise SettingsError(f"{path}: [{name}] has {word}, and may have {', '.join(known)}")
    return table


def _numbers(path: Path, text: dict[str, object], name: str, known: tuple[str, ...]) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for word, value in _table(path, text, name, known).items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise SettingsError(f"{path}: [{name}] {word} = {value!r} is no number")
        numbers[word] = float(value)
    return numbers
