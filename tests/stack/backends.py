"""The query APIs of Tempo, Mimir, Loki and Pyroscope, at the ports that .env publishes."""

import json
import os
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tools.suite import SERVICES
from workshop import stack

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
# A wave of the requester is 12 s of many requests and up to 143 s of few; counted requests need time to arrive.
DEADLINE_S = 60.0
REQUEST_S = 10.0

T = TypeVar("T")


def port(variable: str) -> int:
    """Return a published port: the environment takes precedence over .env, as in compose."""
    if variable in os.environ:
        return int(os.environ[variable])
    for line in (ROOT / ".env").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{variable}="):
            return int(line.partition("=")[2])
    raise LookupError(f"{variable} is neither set nor in .env")


def eventually(poll: Callable[[], T], what: str, deadline_s: float = DEADLINE_S) -> T:
    """Return the first truthy result of `poll`; after the deadline, raise AssertionError with `what` was expected."""
    end = time.monotonic() + deadline_s
    while True:
        result = poll()
        if result:
            return result
        if time.monotonic() > end:
            raise AssertionError(f"within {deadline_s:g} s there was no {what}; the last result was {result!r}")
        time.sleep(0.5)


def compose(*arguments: str, **environ: str) -> str:
    """Run docker compose; return its standard output, and raise AssertionError with its errors if it fails."""
    ended = subprocess.run(  # noqa: S603 - constant arguments
        ["docker", "compose", *arguments],  # noqa: S607
        cwd=ROOT,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@dataclass(frozen=True)
class Backends:
    """A running stack, at its published ports."""

    host: str = HOST
    ports: dict[str, int] = field(default_factory=dict)

    def url(self, variable: str, path: str = "") -> str:
        """Return the URL of the port that a variable of .env publishes."""
        return f"http://{self.host}:{self.ports.get(variable) or port(variable)}{path}"

    def fetch(self, variable: str, path: str, body: object = None, **query: str | int) -> Any:
        """Request JSON; return None for 404, and raise AssertionError for any other error status."""
        url = self.url(variable, path) + ("?" + urllib.parse.urlencode(query) if query else "")
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310 - http, above
        try:
            with urllib.request.urlopen(request, timeout=REQUEST_S) as response:  # noqa: S310 - http, above
                return json.load(response)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise AssertionError(f"{url}: {error.code} {error.read().decode(errors='replace')[:300]}") from error

    def status(self, variable: str, path: str) -> int:
        """Return the status of the response to a GET."""
        try:
            with urllib.request.urlopen(self.url(variable, path), timeout=REQUEST_S) as response:  # noqa: S310
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code

    def promql(self, query: str) -> list[dict[str, Any]]:
        """Return the result of an instant query of Mimir: a list of {"metric": labels, "value": [time, text]}."""
        response = self.fetch("MIMIR_PORT", "/prometheus/api/v1/query", query=query)
        return list(response["data"]["result"])

    def exemplars(self, query: str, seconds: int = 600) -> list[dict[str, Any]]:
        """Return the exemplars of the last `seconds`: {"labels", "value", "timestamp"}."""
        end = int(time.time())
        response = self.fetch(
            "MIMIR_PORT", "/prometheus/api/v1/query_exemplars", query=query, start=end - seconds, end=end
        )
        return [exemplar for series in response["data"] for exemplar in series["exemplars"]]

    def logql(self, query: str, seconds: int = 3600, limit: int = 20) -> list[tuple[dict[str, str], str]]:
        """Return the latest log lines, each with its labels."""
        start = int((time.time() - seconds) * 1e9)
        response = self.fetch("LOKI_PORT", "/loki/api/v1/query_range", query=query, start=start, limit=limit)
        return [(stream["stream"], line) for stream in response["data"]["result"] for _, line, *_ in stream["values"]]

    def traceql(self, query: str, seconds: int = 900, limit: int = 20) -> list[dict[str, Any]]:
        """Return the traces that match, without their spans."""
        end = int(time.time())
        response = self.fetch("TEMPO_PORT", "/api/search", q=query, start=end - seconds, end=end, limit=limit)
        return list(response["traces"])

    def trace_resources(self, trace_id: str) -> list[dict[str, Any]]:
        """Return a trace as OTLP's resourceSpans in JSON, in which ids are in base64; an unknown trace has none."""
        response = self.fetch("TEMPO_PORT", f"/api/v2/traces/{trace_id}")
        return list((response or {}).get("trace", {}).get("resourceSpans", []))

    def trace(self, trace_id: str) -> list[dict[str, Any]]:
        """Return the spans of a trace, each with the name of its "service"; an unknown trace has none."""
        spans: list[dict[str, Any]] = []
        for resource in self.trace_resources(trace_id):
            attributes = {each["key"]: each["value"] for each in resource["resource"]["attributes"]}
            for scope in resource["scopeSpans"]:
                spans += [span | {"service": attributes["service.name"]["stringValue"]} for span in scope["spans"]]
        return spans

    def profile(self, selector: str, kind: str = "process_cpu:cpu:nanoseconds:cpu:nanoseconds") -> int:
        """Return the total of the profiles with these labels in the last 15 minutes, in the unit of their kind."""
        now = int(time.time() * 1000)
        response = self.fetch(
            "PYROSCOPE_PORT",
            "/querier.v1.QuerierService/SelectMergeStacktraces",
            body={"profileTypeID": kind, "labelSelector": selector, "start": now - 900_000, "end": now},
        )
        return int((response or {}).get("flamegraph", {}).get("total", 0))


def workshop_backends(backends: Backends) -> stack.Backends:
    """Return the URLs of the backends in the form that the workshop uses."""
    return stack.Backends(*(backends.url(f"{name}_PORT") for name in ("MIMIR", "LOKI", "TEMPO", "PYROSCOPE")))


def published_services() -> dict[str, str]:
    """Return the variables with which the workshop finds the services at the ports that .env publishes."""
    return {f"WORKSHOP_{it.short.upper()}": f"http://{HOST}:{port(it.port_variable)}" for it in SERVICES}
