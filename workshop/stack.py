"""Check for symptoms in the stack: by queries to Mimir, Loki and Tempo, and by a profile from Pyroscope."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from common.core.address import shown
from tools.query import QueryError, UnexpectedAnswer, get_json
from tools.suite import CPU_PROFILE
from workshop import WorkshopError
from workshop.scenario import GatewayQuery, Symptom

TIMEOUT_S = 10.0
# How far back traces and profiles are searched; they arrive in batches, profiles every ten seconds.
WINDOW_S = 30


@dataclass(frozen=True)
class Backends:
    """The URLs of the backends."""

    mimir: str
    loki: str
    tempo: str
    pyroscope: str


class Stack:
    """Queries the backends. Methods raise WorkshopError if one does not answer, or rejects a query."""

    def __init__(self, backends: Backends) -> None:
        self._at = backends

    def answers(self) -> bool:
        """Return whether a stack is running: whether Mimir evaluates a query."""
        try:
            return bool(self._promql("vector(1)"))
        except (WorkshopError, KeyError, TypeError):
            return False

    def shows(self, symptom: Symptom) -> bool:
        """Return whether all queries of a symptom have a result now; False if it has none."""
        answers = list(self.answers_to(symptom))
        return bool(answers) and all(answers)

    def firing(self) -> set[str]:
        """Return the names of the alerts that fire now."""
        alerts = self._get(f"{self._at.mimir}/prometheus/api/v1/alerts")["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def answers_to(self, symptom: Symptom) -> Iterator[bool]:
        """Yield for each query of the symptom whether it has a result now."""
        if symptom.promql:
            yield bool(self._promql(symptom.promql))
        if symptom.logql:
            answer = self._get(f"{self._at.loki}/loki/api/v1/query", query=symptom.logql)
            yield bool(answer["data"]["result"])
        if symptom.traceql:
            now = int(time.time())
            search = f"{self._at.tempo}/api/search"
            yield bool(self._get(search, q=symptom.traceql, start=now - WINDOW_S, end=now, limit=1)["traces"])
        if symptom.gateway.signal == "profile":
            yield self._cpu_percent(symptom.gateway) > symptom.gateway.above

    def _promql(self, query: str) -> list[Any]:
        answer = self._get(f"{self._at.mimir}/prometheus/api/v1/query", query=query)
        return list(answer["data"]["result"])

    def _cpu_percent(self, query: GatewayQuery) -> float:
        """Return the percentage of CPU time in a function."""
        now = int(time.time() * 1000)
        asked = {
            "profileTypeID": CPU_PROFILE,
            "labelSelector": f'{{service_name="{query.of["service"]}"}}',
            "start": now - WINDOW_S * 1000,
            "end": now,
        }
        address = f"{self._at.pyroscope}/querier.v1.QuerierService/SelectMergeStacktraces"
        flame = self._get(address, asked).get("flamegraph") or {}
        total = int(flame.get("total", 0))
        return 100 * time_in(flame, query.of["function"]) / total if total else 0.0

    def _get(self, address: str, body: object = None, **query: object) -> Any:
        try:
            return get_json(address, body=body, timeout_s=TIMEOUT_S, **query)
        except UnexpectedAnswer as error:
            said = error.answer.text.strip()[:200]
            raise WorkshopError(f"{shown(address)} answered {error.answer.status}: {said}") from None
        except QueryError as error:
            raise WorkshopError(f"nothing answers at {shown(address)}; docker compose up starts the stack") from error


def time_in(flame: dict[str, Any], function: str) -> int:
    """Return the time in a function; recursive calls are counted once.

    Source of the format: Pyroscope's querier.v1.FlameGraph. A level has four numbers for each node: the offset from the
    end of the previous node, its total time, its own time, and the index of its name.
    """
    counted: list[tuple[int, int]] = []
    for level in flame.get("levels", []):
        values, end = [int(value) for value in level["values"]], 0
        for gap, taken, name in zip(values[0::4], values[1::4], values[3::4], strict=True):
            begin, end = end + gap, end + gap + taken
            inside = any(first <= begin and end <= last for first, last in counted)
            if function in flame["names"][name] and not inside:
                counted.append((begin, end))
    return sum(last - first for first, last in counted)
