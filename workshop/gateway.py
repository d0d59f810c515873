"""Symptoms as the gateway of the run without Docker shows them: figures made of its latest spans, lines and metrics."""

import http.client
import json
import time
import urllib.error
import urllib.request
from collections import Counter
from typing import Any
from urllib.parse import urlencode

from workshop.errors import WorkshopError
from workshop.scenario import Look

Json = dict[str, Any]
TIMEOUT_S = 5.0
NOT_FOUND = 404
MOST = 3_000
PROFILE_S = 12.0  # one is pushed each ten seconds, and bears the time at which it began
NANO = 1e9


class Gateway:
    """Looks at what arrived in the last `window_s` seconds; raises WorkshopError where there is no gateway."""

    def __init__(self, page: str, window_s: float = 15.0) -> None:
        self._page = page
        self._window_s = window_s
        self._first: dict[str, float] = {}
        self._before: dict[str, tuple[float, float]] = {}

    def answers(self) -> bool:
        """Whether there is a gateway."""
        try:
            return "cells" in self._get("summary")
        except (WorkshopError, FileNotFoundError):
            return False

    def figure(self, look: Look) -> float:
        """Give the figure that a look is about; 0 where there is nothing to see."""
        found = getattr(self, f"_{look.signal}")(look)
        return float(found)

    def shows(self, look: Look) -> bool:
        """Whether the symptom is there now."""
        return self.figure(look) > look.above

    def _spans(self, look: Look) -> float:
        of = look.of
        asked = {key: of[key] for key in ("service", "name") if key in of}
        now = time.time()
        every = [span for span in self._get("spans", limit=MOST, **asked) if _has(span["attributes"], of.get("has"))]
        every = [span for span in every if "kind" not in of or span["kind"] == of["kind"]]
        if look.figure == "behind_s":
            return min((now - span["end_unix_nano"] / NANO for span in every[:50]), default=0.0)
        late = [span for span in every if now - span["end_unix_nano"] / NANO <= self._window_s]
        match look.figure:
            case "p75_ms" | "p75_times":
                return self._took(look, _p75_ms(late))
            case "per_trace":
                return float(max(Counter(str(span["trace_id"]) for span in late).values(), default=0))
            case "roots":
                return _share(late, [span for span in late if not span["parent_span_id"]])
            case "share":
                return _share(late, [span for span in late if _has(span["attributes"], of["share"])])
            case "per_s":
                return len(late) / self._window_s
        raise WorkshopError(f"spans have no figure {look.figure!r}")

    def _took(self, look: Look, took_ms: float) -> float:
        """The time itself, or how often the best so far fits in: what is slow for one machine is not for another."""
        if look.figure == "p75_ms" or not took_ms:
            return took_ms
        key = json.dumps(look.of)
        self._first[key] = min(took_ms, self._first.get(key, took_ms))
        return took_ms / self._first[key]

    def _lines(self, look: Look) -> float:
        since = (time.time() - self._window_s) * NANO
        lines = self._get("logs", limit=MOST, **look.of)
        return float(sum(line["time_unix_nano"] >= since for line in lines)) / self._window_s

    def _metric(self, look: Look) -> float:
        of, since = look.of, (time.time() - self._window_s) * NANO
        asked = {key: of[key] for key in ("service", "name") if key in of}
        every = [
            point
            for metric in self._get("metrics", **asked)
            for point in metric["points"]
            if _has(point["attributes"], of.get("has"))
        ]
        if look.figure == "behind_s":
            return min((time.time() - point["time_unix_nano"] / NANO for point in every), default=0.0)
        points = [point for point in every if point["time_unix_nano"] >= since]
        total = float(sum(point.get("value", point.get("count", 0)) for point in points))
        match look.figure:
            case "value":
                return total
            case "series":
                return len(points)
            case "mean":
                return self._change(look, float(sum(point["sum"] for point in points)), total)
            case "grown":
                return total - self._first.setdefault(json.dumps(of), total) if points else 0.0
            case "per_s":
                return self._change(look, total, time.monotonic())
        raise WorkshopError(f"a metric has no figure {look.figure!r}")

    def _change(self, look: Look, above: float, below: float) -> float:
        """How much one figure grew for each that the other did, since it was last asked a moment ago."""
        key = json.dumps([look.figure, look.of])
        before = self._before.setdefault(key, (above, below))
        self._before[key] = (above, below)
        return (above - before[0]) / (below - before[1]) if below > before[1] else 0.0

    def _profile(self, look: Look) -> float:
        """The share of CPU time in a function, in percent."""
        try:
            tree = self._get(f"profiles/{look.of['service']}/flame", since_s=self._window_s + PROFILE_S)
        except FileNotFoundError:
            return 0.0
        return 100 * _time_in(tree, look.of["function"]) / tree["value"] if tree["value"] else 0.0

    def _get(self, path: str, **query: object) -> Any:
        address = f"{self._page}/api/{path}?{urlencode(query)}"
        try:
            with urllib.request.urlopen(address, timeout=TIMEOUT_S) as answer:  # noqa: S310 - checked to be http
                return json.load(answer)
        except urllib.error.HTTPError as refusal:
            with refusal:
                if refusal.code == NOT_FOUND:
                    raise FileNotFoundError(path) from None
                raise WorkshopError(f"{self._page} answered {refusal.code}; is it the gateway of this suite?") from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise WorkshopError(f"no gateway answers at {self._page}; make demo starts one") from error


def _has(attributes: Json, wanted: Json | None) -> bool:
    return all(str(attributes.get(key)) == str(value) for key, value in (wanted or {}).items())


def _p75_ms(spans: list[Json]) -> float:
    """What three of four spans do not take longer than; 0 for none."""
    took = sorted((span["end_unix_nano"] - span["start_unix_nano"]) / 1e6 for span in spans)
    return float(took[len(took) * 3 // 4]) if took else 0.0


def _share(every: list[Json], some: list[Json]) -> float:
    return len(some) / len(every) if every else 0.0


def _time_in(node: Json, function: str) -> float:
    """How much of a flame lies in a function, each part counted once."""
    if function in node["name"]:
        return float(node["value"])
    return sum(_time_in(child, function) for child in node.get("children", []))
