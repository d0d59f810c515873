"""The query interfaces of Tempo, Mimir, Loki and Pyroscope, at the addresses that .env publishes."""

import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from workshop import stack

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
# A wave of the requester is 12 s of many requests and up to 143 s of few; what is counted must have had time to arrive.
DEADLINE_S = 60.0
REQUEST_S = 10.0

T = TypeVar("T")


def port(variable: str) -> int:
    """Return a published port: the shell's word first, then that of .env, as compose does."""
    if variable in os.environ:
        return int(os.environ[variable])
    for line in (ROOT / ".env").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{variable}="):
            return int(line.partition("=")[2])
    raise LookupError(f"{variable} is neither set nor in .env")


def eventually(look: Callable[[], T], what: str, deadline_s: float = DEADLINE_S) -> T:
    """Return the first answer of `look` that is not empty; after the deadline, fail and say what was waited for."""
    end = time.monotonic() + deadline_s
    while True:
        answer = look()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"within {deadline_s:g} s there was no {what}; the last answer was {answer!r}")
        time.sleep(0.5)


@dataclass(frozen=True)
class Backends:
    """A running stack, seen from this machine."""

    host: str = HOST
    ports: dict[str, int] = field(default_factory=dict)

    def address(self, variable: str, path: str = "") -> str:
        """Return the address of what is published under a variable of .env."""
        return f"http://{self.host}:{self.ports.get(variable) or port(variable)}{path}"

    def fetch(self, variable: str, path: str, body: object = None, **query: str | int) -> Any:
        """Ask for JSON; an answer of "not found" is None, every other refusal an error."""
        address = self.address(variable, path) + ("?" + urllib.parse.urlencode(query) if query else "")
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(address, data, {"Content-Type": "application/json"})  # noqa: S310 - http, above
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_S) as answer:  # noqa: S310 - http, above
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise AssertionError(f"{address}: {error.code} {error.read().decode(errors='replace')[:300]}") from error

    def status(self, variable: str, path: str) -> int:
        """Return the status that a GET is answered with."""
        try:
            with urllib.request.urlopen(self.address(variable, path), timeout=REQUEST_S) as answer:  # noqa: S310
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def promql(self, query: str) -> list[dict[str, Any]]:
        """Return the vector that Mimir computes now: a list of {"metric": labels, "value": [time, text]}."""
        answer = self.fetch("MIMIR_PORT", "/prometheus/api/v1/query", query=query)
        return list(answer["data"]["result"])

    def exemplars(self, query: str, seconds: int = 600) -> list[dict[str, Any]]:
        """Return the exemplars of the last `seconds`: {"labels", "value", "timestamp"}."""
        end = int(time.time())
        answer = self.fetch(
            "MIMIR_PORT", "/prometheus/api/v1/query_exemplars", query=query, start=end - seconds, end=end
        )
        return [exemplar for series in answer["data"] for exemplar in series["exemplars"]]

    def logql(self, query: str, seconds: int = 3600, limit: int = 20) -> list[tuple[dict[str, str], str]]:
        """Return the latest lines, each with its labels."""
        start = int((time.time() - seconds) * 1e9)
        answer = self.fetch("LOKI_PORT", "/loki/api/v1/query_range", query=query, start=start, limit=limit)
        return [(stream["stream"], line) for stream in answer["data"]["result"] for _, line, *_ in stream["values"]]

    def traceql(self, query: str, seconds: int = 900, limit: int = 20) -> list[dict[str, Any]]:
        """Return the traces that match, without their spans."""
        end = int(time.time())
        answer = self.fetch("TEMPO_PORT", "/api/search", q=query, start=end - seconds, end=end, limit=limit)
        return list(answer["traces"])

    def trace(self, trace_id: str) -> list[dict[str, Any]]:
        """Return the spans of a trace, each with the name of its "service"; an unknown trace has none."""
        answer = self.fetch("TEMPO_PORT", f"/api/v2/traces/{trace_id}")
        spans: list[dict[str, Any]] = []
        for resource in (answer or {}).get("trace", {}).get("resourceSpans", []):
            known = {each["key"]: each["value"] for each in resource["resource"]["attributes"]}
            for scope in resource["scopeSpans"]:
                spans += [span | {"service": known["service.name"]["stringValue"]} for span in scope["spans"]]
        return spans

    def profile(self, selector: str, kind: str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds") -> int:
        """Return the total of the profiles with such labels, of a quarter of an hour, in the unit of their kind."""
        now = int(time.time() * 1000)
        answer = self.fetch(
            "PYROSCOPE_PORT",
            "/querier.v1.QuerierService/SelectMergeStacktraces",
            body={"profileTypeID": kind, "labelSelector": selector, "start": now - 900_000, "end": now},
        )
        return int((answer or {}).get("flamegraph", {}).get("total", 0))


def addresses(of: Backends) -> stack.Backends:
    """The addresses of those who keep signals, as the workshop asks them."""
    return stack.Backends(*(of.address(f"{name}_PORT") for name in ("MIMIR", "LOKI", "TEMPO", "PYROSCOPE")))
