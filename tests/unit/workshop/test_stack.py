"""`scenario run` queries the backends of a stack for symptoms and alerts."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from common.core.env import Env, SettingsError
from workshop import WorkshopError
from workshop.scenario import GatewayQuery, Symptom
from workshop.settings import load
from workshop.stack import Backends, Stack, time_in

PROFILE = GatewayQuery("profile", "percent", 10, {"service": "s", "function": "f"})
SPANS = GatewayQuery("spans", "per_s", 1, {})
# `f` calls itself and is counted once; it takes 4 of 10, a `g` next to it 6, and in that another `f` takes 1.
FLAME = {
    "names": ["total", "f", "g"],
    "levels": [{"values": [0, 10, 0, 0]}, {"values": [0, 4, 1, 1, 0, 6, 5, 2]}, {"values": [0, 3, 3, 1, 6, 1, 1, 1]}],
    "total": 10,
}


class Backend(BaseHTTPRequestHandler):
    """Responds by path and query from a table of its server."""

    def do_GET(self) -> None:
        """Send the response, or 400 for an unknown query."""
        url = urlsplit(self.path)
        parameters = parse_qs(url.query)
        query = parameters.get("query", parameters.get("q", []))
        found = self.server.responses.get((url.path, *query))  # type: ignore[attr-defined]
        self.send_response(200 if found is not None else 400)
        self.end_headers()
        self.wfile.write(json.dumps(found).encode() if found is not None else b"parse error")

    def do_POST(self) -> None:
        """Respond as to a GET."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


PROMQL, LOGQL = "/prometheus/api/v1/query", "/loki/api/v1/query"


@pytest.fixture
def stack() -> Iterator[Stack]:
    """Start a stack in which each query except `none` has a result."""
    server = HTTPServer(("127.0.0.1", 0), Backend)
    one: dict[str, Any] = {"data": {"result": [{}]}}
    none: dict[str, Any] = {"data": {"result": []}}
    alerts = [{"labels": {"alertname": name}, "state": name} for name in ("firing", "pending")]
    server.responses = {  # type: ignore[attr-defined]
        (PROMQL, "vector(1)"): one,
        (PROMQL, "up"): one,
        (PROMQL, "none"): none,
        (LOGQL, "lines"): one,
        (LOGQL, "none"): none,
        ("/api/search", "{}"): {"traces": [{}]},
        ("/api/search", "{ false }"): {"traces": []},
        ("/querier.v1.QuerierService/SelectMergeStacktraces",): {"flamegraph": FLAME},
        ("/prometheus/api/v1/alerts",): {"data": {"alerts": alerts}},
    }
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    at = f"http://127.0.0.1:{server.server_port}"
    yield Stack(Backends(at, at, at, at))
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("symptom", "visible"),
    [
        (Symptom("t", SPANS, "up", "lines", "{}"), True),
        (Symptom("t", SPANS, "none", "lines", "{}"), False),
        (Symptom("t", SPANS, "up", "none", "{}"), False),
        (Symptom("t", SPANS, "up", "lines", "{ false }"), False),
        (Symptom("t", SPANS), False),
        (Symptom("t", PROFILE), True),
        (Symptom("t", GatewayQuery("profile", "percent", 60, PROFILE.of)), False),
    ],
)
def test_a_symptom_is_visible_if_all_its_queries_have_results(stack: Stack, symptom: Symptom, visible: bool) -> None:
    """A symptom without a query is never visible; for a profile, the query of the gateway is used."""
    assert stack.shows(symptom) is visible


def test_a_pending_alert_is_not_firing(stack: Stack) -> None:
    """It may become inactive."""
    assert stack.firing() == {"firing"}


def test_a_rejected_query_is_reported_with_the_reason(stack: Stack) -> None:
    """The message is one line."""
    with pytest.raises(WorkshopError, match=r"answered 400: parse error"):
        stack.shows(Symptom("t", SPANS, "sum("))


def test_a_stack_is_detected(stack: Stack) -> None:
    """Another program on the port is not a stack."""
    assert stack.answers()
    assert not Stack(Backends(*["http://127.0.0.1:1"] * 4)).answers()


def test_time_in_a_function_of_a_flame_is_counted_once() -> None:
    """Recursive calls are not counted again; a call from another function is."""
    assert time_in(FLAME, "f") == 5
    assert time_in(FLAME, "g") == 6
    assert time_in({}, "f") == 0


def test_the_stack_is_at_the_ports_of_compose_or_at_a_configured_address() -> None:
    """The setting is a port or an address, and anything else is an error."""
    backends = load(Env({"MIMIR_PORT": "9010", "WORKSHOP_TEMPO": "http://there:1/"})).stack
    assert backends == Backends(
        "http://127.0.0.1:9010", "http://127.0.0.1:3100", "http://there:1", "http://127.0.0.1:4040"
    )
    for wrong in ({"LOKI_PORT": "http"}, {"WORKSHOP_LOKI": "there"}):
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            load(Env(wrong))
