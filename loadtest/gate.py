"""The gate: compares the metrics of a run with the thresholds in a file."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from common.core.env import SettingsError

FILE = Path(__file__).with_name("gate.toml")
MOST, LEAST = ("p95_ms", "error_share", "injected_share"), ("check_share", "requests")
RUN = ("users", "rate", "time", "shape", "seed")


@dataclass(frozen=True)
class Gate:
    """Settings of the run, which variables override, and the upper and lower thresholds of each metric."""

    run: dict[str, str]
    most: dict[str, float]
    least: dict[str, float]


@dataclass(frozen=True)
class GateResult:
    """One metric compared with its threshold."""

    figure: str
    value: float
    bound: str
    limit: float

    @property
    def holds(self) -> bool:
        """Whether the metric meets the threshold; a value equal to it does."""
        return self.value <= self.limit if self.bound == "most" else self.value >= self.limit


def read_gate(path: Path = FILE) -> Gate:
    """Read the thresholds. Raises SettingsError if the file is missing, unreadable, or has unknown keys."""
    try:
        text = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as fault:
        raise SettingsError(f"{path}: {fault.strerror}") from fault
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise SettingsError(f"{path} is not TOML: {fault}") from fault
    run = {name: str(value) for name, value in _table(path, text, "run", RUN).items()}
    return Gate(run, _numbers(path, text, "most", MOST), _numbers(path, text, "least", LEAST))


def judge(gate: Gate, figures: dict[str, float]) -> list[GateResult]:
    """Compare each metric that has a threshold."""
    return [GateResult(name, figures[name], "most", limit) for name, limit in gate.most.items()] + [
        GateResult(name, figures[name], "least", limit) for name, limit in gate.least.items()
    ]


def _table(path: Path, text: dict[str, object], name: str, known: tuple[str, ...]) -> dict[str, object]:
    table = text.get(name, {})
    if not isinstance(table, dict):
        raise SettingsError(f"{path}: {name} is not a table")
    for word in table:
        if word not in known:
            raise SettingsError(f"{path}: [{name}] has the unknown key {word}; known are {', '.join(known)}")
    return table


def _numbers(path: Path, text: dict[str, object], name: str, known: tuple[str, ...]) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for word, value in _table(path, text, name, known).items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise SettingsError(f"{path}: [{name}] {word} = {value!r} is not a number")
        numbers[word] = float(value)
    return numbers
