"""Check for symptoms at the local gateway: values computed from its latest spans, log lines, metrics and profiles."""

import json
import time
from collections import Counter
from typing import Any

from common.core.address import shown
from tools.query import OK, QueryError, send
from workshop import WorkshopError
from workshop.scenario import GatewayQuery

Json = dict[str, Any]
NOT_FOUND = 404
LIMIT = 3_000
TIMEOUT_S = 30.0  # as many spans take a busy machine seconds
PROFILE_S = 12.0  # one is pushed every ten seconds, with the time at which it started
NANO = 1e9


class Gateway:
    """Queries data of the last `window_s` seconds. Methods raise WorkshopError if no gateway answers."""

    def __init__(self, page: str, window_s: float = 15.0) -> None:
        self._page = page
        self._window_s = window_s
        self._first: dict[str, float] = {}
        self._before: dict[str, tuple[float, float]] = {}

    def answers(self) -> bool:
        """Return whether a gateway is running."""
        try:
            return "cells" in self._get("summary")
        except (WorkshopError, FileNotFoundError):
            return False

    def value(self, query: GatewayQuery) -> float:
        """Return the value that a query asks for; 0 if there is no data."""
        found = getattr(self, f"_{query.signal}")(query)
        return float(found)

    def shows(self, query: GatewayQuery) -> bool:
        """Return whether the symptom shows now."""
        return self.value(query) > query.above

    def _spans(self, query: GatewayQuery) -> float:
        of = query.of
        asked = {key: of[key] for key in ("service", "name") if key in of}
        now = time.time()
        every = [span for span in self._get("spans", limit=LIMIT, **asked) if _has(span["attributes"], of.get("has"))]
        every = [span for span in every if "kind" not in of or span["kind"] == of["kind"]]
        if query.figure == "behind_s":
            return min((now - span["end_unix_nano"] / NANO for span in every[:50]), default=0.0)
        late = [span for span in every if now - span["end_unix_nano"] / NANO <= self._window_s]
        match query.figure:
            case "p75_ms" | "p75_times":
                return self._duration(query, _p75_ms(late))
            case "per_trace":
                return float(max(Counter(str(span["trace_id"]) for span in late).values(), default=0))
            case "roots":
                return _share(late, [span for span in late if not span["parent_span_id"]])
            case "share":
                return _share(late, [span for span in late if _has(span["attributes"], of["share"])])
            case "per_s":
                return len(late) / self._window_s
        raise WorkshopError(f"spans have no figure {query.figure!r}")

    def _duration(self, query: GatewayQuery, took_ms: float) -> float:
        """Return the duration, or its ratio to the shortest so far, which depends less on the machine's speed."""
        if query.figure == "p75_ms" or not took_ms:
            return took_ms
        key = json.dumps(query.of)
        self._first[key] = min(took_ms, self._first.get(key, took_ms))
        return took_ms / self._first[key]

    def _lines(self, query: GatewayQuery) -> float:
        since = (time.time() - self._window_s) * NANO
        lines = self._get("logs", limit=LIMIT, **query.of)
        return float(sum(line["time_unix_nano"] >= since for line in lines)) / self._window_s

    def _metric(self, query: GatewayQuery) -> float:
        of, since = query.of, (time.time() - self._window_s) * NANO
        asked = {key: of[key] for key in ("service", "name") if key in of}
        every = [
            point
            for metric in self._get("metrics", **asked)
            for point in metric["points"]
            if _has(point["attributes"], of.get("has"))
        ]
        if query.figure == "behind_s":
            return min((time.time() - point["time_unix_nano"] / NANO for point in every), default=0.0)
        points = [point for point in every if point["time_unix_nano"] >= since]
        total = float(sum(point.get("value", point.get("count", 0)) for point in points))
        match query.figure:
            case "value":
                return total
            case "series":
                return len(points)
            case "mean":
                return self._change(query, float(sum(point["sum"] for point in points)), total)
            case "grown":
                return total - self._first.setdefault(json.dumps(of), total) if points else 0.0
            case "per_s":
                return self._change(query, total, time.monotonic())
        raise WorkshopError(f"a metric has no figure {query.figure!r}")

    def _change(self, query: GatewayQuery, numerator: float, denominator: float) -> float:
        """Return the quotient of both changes since the last call for the same query."""
        key = json.dumps([query.figure, query.of])
        before = self._before.setdefault(key, (numerator, denominator))
        self._before[key] = (numerator, denominator)
        return (numerator - before[0]) / (denominator - before[1]) if denominator > before[1] else 0.0

    def _profile(self, query: GatewayQuery) -> float:
        """Return the percentage of CPU time in a function; 0 if there is no profile."""
        try:
            tree = self._get(f"profiles/{query.of['service']}/flame", since_s=self._window_s + PROFILE_S)
        except FileNotFoundError:
            return 0.0
        return 100 * _time_in(tree, query.of["function"]) / tree["value"] if tree["value"] else 0.0

    def _get(self, path: str, **query: Any) -> Any:
        try:
            answer = send(f"{self._page}/api/{path}", timeout_s=TIMEOUT_S, **query)
            if answer.status == OK:
                return answer.json()
        except QueryError as error:
            raise WorkshopError(f"no gateway answers at {shown(self._page)}; make demo starts one") from error
        if answer.status == NOT_FOUND:
            raise FileNotFoundError(path)
        raise WorkshopError(f"{shown(self._page)} answered {answer.status}; is it the gateway of this suite?")


def _has(attributes: Json, wanted: Json | None) -> bool:
    return all(str(attributes.get(key)) == str(value) for key, value in (wanted or {}).items())


def _p75_ms(spans: list[Json]) -> float:
    """Return the 75th percentile of the durations; 0 for no spans."""
    took = sorted((span["end_unix_nano"] - span["start_unix_nano"]) / 1e6 for span in spans)
    return float(took[len(took) * 3 // 4]) if took else 0.0


def _share(every: list[Json], some: list[Json]) -> float:
    return len(some) / len(every) if every else 0.0


def _time_in(node: Json, function: str) -> float:
    """Return the value of a function in a flame graph; recursive calls are counted once."""
    if function in node["name"]:
        return float(node["value"])
    return sum(_time_in(child, function) for child in node.get("children", []))
