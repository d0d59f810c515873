"""A scenario: its faults, the complaint that learners get, its symptoms, hints, and the answer."""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.faults import Fault, InvalidFaultSetting, check_strength
from workshop import WorkshopError
from workshop.fault_client import find_fault, parse_duration

FOLDER = Path(__file__).parent / "scenarios"

SIGNALS = ("spans", "lines", "metric", "profile")


@dataclass(frozen=True, eq=False)
class GatewayQuery:
    """A query to the local gateway; the symptom shows while its result is above `above`.

    `of` selects the data: service, name, and further keys that depend on the signal. `figure` is what is computed.
    """

    signal: str
    figure: str
    above: float
    of: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Symptom:
    """A symptom: a sentence, and the queries that show it.

    The result of a query to the stack is empty unless the symptom shows. Pyroscope has no such queries; its profile is
    selected by `gateway`.
    """

    sentence: str
    gateway: GatewayQuery
    promql: str = ""
    logql: str = ""
    traceql: str = ""


@dataclass(frozen=True)
class Scenario:
    """One scenario; times in seconds. `alerts` are those of mimir/source that fire in a stack before it ends."""

    name: str
    title: str
    faults: dict[Fault, float]
    start_s: float
    lasts_s: float
    complaint: str
    hints: tuple[str, ...]
    answer: str
    where: tuple[str, ...]
    symptoms: tuple[Symptom, ...] = field(default=())
    alerts: tuple[str, ...] = field(default=())


def names() -> list[str]:
    """Return the names of all scenarios."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read(name: str) -> Scenario:
    """Read a scenario. Raises WorkshopError if it does not exist or is invalid."""
    if name not in names():
        raise WorkshopError(f"there is no scenario {name!r}; there are {', '.join(names())}")
    path = FOLDER / f"{name}.toml"
    try:
        return _parsed(name, tomllib.loads(path.read_text(encoding="utf-8-sig")))
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError, InvalidFaultSetting) as wrong:
        raise WorkshopError(f"workshop/scenarios/{path.name} is invalid: {type(wrong).__name__} {wrong}") from wrong


def _parsed(name: str, table: dict[str, Any]) -> Scenario:
    faults = {find_fault(each): float(strength) for each, strength in table["faults"].items()}
    for fault, strength in faults.items():
        check_strength(fault, strength)
    return Scenario(
        name=name,
        title=table["title"],
        faults=faults,
        start_s=parse_duration(table["start"]),
        lasts_s=parse_duration(table["lasts"]),
        complaint=table["complaint"].strip(),
        hints=tuple(table["hints"]),
        answer=table["answer"].strip(),
        where=tuple(table["where"]),
        symptoms=tuple(map(_symptom, table["symptom"])),
        alerts=_alerts(table.get("alert", [])),
    )


def _alerts(value: object) -> tuple[str, ...]:
    """Return the names of alerts, given as one name or a list."""
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"alert = {value!r} is neither a name nor a list of names")
    return tuple(names)


def _symptom(table: dict[str, Any]) -> Symptom:
    of = dict(table["gateway"])
    signal = of.pop("signal")
    if signal not in SIGNALS:
        raise ValueError(f"signal = {signal!r} is not one of {', '.join(SIGNALS)}")
    query = GatewayQuery(signal, of.pop("figure"), float(of.pop("above")), of)
    return Symptom(table["sentence"], query, table.get("promql", ""), table.get("logql", ""), table.get("traceql", ""))
