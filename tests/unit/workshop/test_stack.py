"""The back ends of a stack as `scenario run` asks them: when a symptom is there, and when nobody can say."""

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
# `f` calls itself and is counted once; it takes 4 of 10, a `g` beside it 6, and in that another `f` takes 1.
FLAME = {
    "names": ["total", "f", "g"],
    "levels": [{"values": [0, 10, 0, 0]}, {"values": [0, 4, 1, 1, 0, 6, 5, 2]}, {"values": [0, 3, 3, 1, 6, 1, 1, 1]}],
    "total": 10,
}


class Said(BaseHTTPRequestHandler):
    """Answers as its server was told, by path and query."""

    def do_GET(self) -> None:
        """Answer, or refuse what is not known."""
        asked = urlsplit(self.path)
        words = parse_qs(asked.query)
        found = self.server.told.get((asked.path, *words.get("query", words.get("q", []))))  # type: ignore[attr-defined]
        self.send_response(200 if found is not None else 400)
        self.end_headers()
        self.wfile.write(json.dumps(found).encode() if found is not None else b"parse error")

    def do_POST(self) -> None:
        """As a GET."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


PROMQL, LOGQL = "/prometheus/api/v1/query", "/loki/api/v1/query"


@pytest.fixture
def stack() -> Iterator[Stack]:
    """A stack of which each query but `none` has an answer."""
    server = HTTPServer(("127.0.0.1", 0), Said)
    one: dict[str, Any] = {"data": {"result": [{}]}}
    none: dict[str, Any] = {"data": {"result": []}}
    alerts = [{"labels": {"alertname": name}, "state": name} for name in ("firing", "pending")]
    server.told = {  # type: ignore[attr-defined]
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
    ("symptom", "there"),
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
def test_a_symptom_is_there_when_all_its_queries_have_answers(stack: Stack, symptom: Symptom, there: bool) -> None:
    """One without a query is never seen; a profile is asked for by what the gateway would be."""
    assert stack.shows(symptom) is there


def test_an_alert_that_is_pending_does_not_fire_yet(stack: Stack) -> None:
    """It may pass."""
    assert stack.firing() == {"firing"}


def test_a_query_that_is_refused_is_told_with_the_reason(stack: Stack) -> None:
    """In one line."""
    with pytest.raises(WorkshopError, match=r"answered 400: parse error"):
        stack.shows(Symptom("t", SPANS, "sum("))


def test_whether_there_is_a_stack(stack: Stack) -> None:
    """Something else on the port is none."""
    assert stack.answers()
    assert not Stack(Backends(*["http://127.0.0.1:1"] * 4)).answers()


def test_time_in_a_function_of_a_flame_is_counted_once() -> None:
    """Also where it calls itself; a call from elsewhere counts by itself."""
    assert time_in(FLAME, "f") == 5
    assert time_in(FLAME, "g") == 6
    assert time_in({}, "f") == 0


def test_the_stack_is_where_compose_publishes_it_or_where_an_address_says() -> None:
    """A port, an address, or a complaint."""
    told = load(Env({"MIMIR_PORT": "9010", "WORKSHOP_TEMPO": "http://there:1/"})).stack
    assert told == Backends("http://127.0.0.1:9010", "http://127.0.0.1:3100", "http://there:1", "http://127.0.0.1:4040")
    for wrong in ({"LOKI_PORT": "http"}, {"WORKSHOP_LOKI": "there"}):
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            load(Env(wrong))
