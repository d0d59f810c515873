"""A scenario: what goes wrong, what a learner is told, by which signs it is found, and the answer."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.faults import Fault
from common.faults.state import InvalidFaultSetting, check_strength
from workshop.durations import seconds
from workshop.errors import WorkshopError
from workshop.switches import fault_named

FOLDER = Path(__file__).parent / "scenarios"

LOOKS = ("spans", "lines", "metric", "profile")


@dataclass(frozen=True, eq=False)
class Look:
    """A question to the gateway of the run without Docker, and when the answer means that the symptom is there.

    `of` says what is looked at: service, name, and what else the kind of signal has. `figure` is what is made of it,
    and the symptom is there while that is above `above`.
    """

    signal: str
    figure: str
    above: float
    of: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Symptom:
    """A sign of the trouble: a sentence, and the questions that show it, each to one of those who keep signals.

    A query of the stack is one that has an answer only while the symptom is there. Pyroscope has no such queries: it is
    asked for the profile that `gateway` is about.
    """

    tells: str
    gateway: Look
    promql: str = ""
    logql: str = ""
    traceql: str = ""


@dataclass(frozen=True)
class Scenario:
    """One scenario; times in seconds. `alerts` are those of mimir/source that it fires in a stack before it ends."""

    name: str
    title: str
    faults: dict[Fault, float]
    start_s: float
    lasts_s: float
    told: str
    hints: tuple[str, ...]
    answer: str
    where: tuple[str, ...]
    symptoms: tuple[Symptom, ...] = field(default=())
    alerts: tuple[str, ...] = field(default=())


def names() -> list[str]:
    """Give the names of all scenarios."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read(name: str) -> Scenario:
    """Read a scenario; raises WorkshopError."""
    if name not in names():
        raise WorkshopError(f"there is no scenario {name!r}; there are {', '.join(names())}")
    path = FOLDER / f"{name}.toml"
    try:
        return _made(name, tomllib.loads(path.read_text(encoding="utf-8")))
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError, InvalidFaultSetting) as wrong:
        raise WorkshopError(f"workshop/scenarios/{path.name} cannot be used: {type(wrong).__name__} {wrong}") from wrong


def _made(name: str, told: dict[str, Any]) -> Scenario:
    faults = {fault_named(each): float(strength) for each, strength in told["faults"].items()}
    for fault, strength in faults.items():
        check_strength(fault, strength)
    return Scenario(
        name=name,
        title=told["title"],
        faults=faults,
        start_s=seconds(told["start"]),
        lasts_s=seconds(told["lasts"]),
        told=told["told"].strip(),
        hints=tuple(told["hints"]),
        answer=told["answer"].strip(),
        where=tuple(told["where"]),
        symptoms=tuple(map(_symptom, told["symptom"])),
        alerts=_alerts(told.get("alert", [])),
    )


def _alerts(told: object) -> tuple[str, ...]:
    """One name, or a list of them."""
    names = [told] if isinstance(told, str) else told
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"alert = {told!r} is neither a name nor a list of names")
    return tuple(names)


def _symptom(told: dict[str, Any]) -> Symptom:
    of = dict(told["gateway"])
    signal = of.pop("signal")
    if signal not in LOOKS:
        raise ValueError(f"signal = {signal!r} is none of {', '.join(LOOKS)}")
    look = Look(signal, of.pop("figure"), float(of.pop("above")), of)
    return Symptom(told["tells"], look, told.get("promql", ""), told.get("logql", ""), told.get("traceql", ""))
