"""The frontend: page and files, /api/<beast> in one trace with the recorder, and its behaviour in an outage."""

import json
import re
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from common.core.endpoints import MYTHICAL
from local.servers.postgres import Postgres
from local.servers.rabbitmq import RabbitMQ
from tests.integration.conftest import Gateway, Service, eventually
from tests.integration.service_support import (
    JSON,
    SILENT,
    Fleet,
    Response,
    ask,
    broker_settings,
    database_settings,
    fleet,
    own,
    own_database,
    requests_to,
    silent_server,
    spans_of,
    traceparent,
)
from tests.integration.test_telemetry_labels import HOSTILE, send

FARO = "http://127.0.0.1:12350/collect"
ORIGIN = "http://127.0.0.1:4005"  # the first one that the gateway allows by default
SETTINGS = {"FAULT_NULL_NAME": "0", "FAULT_SLOW_PROCESSING": "0", "FARO_URL": FARO}
PROBLEM = "application/problem+json"


@dataclass(frozen=True)
class Suite:
    """A server, a recorder and a frontend."""

    services: Fleet
    frontend: Service

    def ask(self, path: str, method: str = "GET", name: object = None, **headers: str) -> Response:
        """Send the frontend a request of its page."""
        body = None if name is None else json.dumps({"name": name})
        return ask(self.frontend.base_url, path, method, body=body, headers=(JSON if body else {}) | headers)


@pytest.fixture(scope="module")
def suite(
    postgres: Postgres, rabbitmq: RabbitMQ, gateway: Gateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Suite]:
    """A running suite with a separate database."""
    with own_database(postgres) as name:
        settings = gateway.settings | database_settings(postgres, name) | broker_settings(rabbitmq) | SETTINGS
        with fleet(tmp_path_factory.mktemp("services"), settings) as services:
            server = services.launch("server")
            services.launch("recorder")
            frontend = services.launch("frontend", **requests_to(server))
            services.ready()
            yield Suite(services, frontend)


def new_name() -> str:
    """Return a name that no other test uses."""
    return f"frontend_{secrets.token_hex(4)}"


def complete(gateway: Gateway, trace_id: str, size: int) -> list[dict[str, Any]]:
    """Return the spans of a trace if it has at least `size` spans, else an empty list."""
    spans = spans_of(gateway, trace_id)
    return spans if len(spans) >= size else []


def embedded_data(page: Response) -> dict[str, Any]:
    """Return the data embedded in the page."""
    found = re.search(r'<script type="application/json" id="known">(.*?)</script>', page.text)
    assert found
    content: dict[str, Any] = json.loads(found[1])
    return content


def test_the_page_has_beasts_and_receiver_and_its_files_exist(suite: Suite) -> None:
    """Nothing is loaded from another site, and the Content-Security-Policy forbids it."""
    page = suite.ask("/")
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert embedded_data(page)["endpoints"] == list(MYTHICAL.names)
    faro = embedded_data(page)["faro"]
    assert (faro["url"], faro["app"]["name"]) == (FARO, "mythical-browser")
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'self'; connect-src 'self' http://127.0.0.1:12350;" in policy
    loaded = re.findall(r'(?:src|href)="(/[^"]+)"', page.text)
    assert {"/static/page.js", "/static/page.css"} <= set(loaded)
    for path in loaded:
        file = suite.ask(path)
        assert (file.status, file.headers["Content-Security-Policy"]) == (200, policy), path
    assert suite.ask("/static/package.json").status == 404
    assert "://" not in page.text.replace(FARO, "")


def test_server_timing_has_the_trace_of_the_page_load(suite: Suite, gateway: Gateway) -> None:
    """With this header, a browser connects the page load with the frontend's span."""
    response = suite.ask("/")
    found = re.fullmatch(r'traceparent;desc="00-(\w{32})-(\w{16})-\d\d"', response.headers["Server-Timing"])
    assert found, response.headers["Server-Timing"]
    [span] = eventually(lambda: spans_of(gateway, found[1]))
    assert (span["name"], span["span_id"]) == ("GET /", found[2])


def test_one_trace_contains_frontend_server_database_and_recorder(suite: Suite, gateway: Gateway) -> None:
    """Each span of a POST, sent like a browser with a traceparent, has its caller as parent."""
    trace_id, headers = traceparent()
    response = suite.ask("/api/unicorn", "POST", new_name(), **headers)
    assert response.status == 201
    spans = eventually(lambda: complete(gateway, trace_id, 6))
    by_id = {span["span_id"]: span for span in spans}
    path = {
        (span["service"], span["name"]): by_id.get(span["parent_span_id"], {"name": None})["name"] for span in spans
    }
    assert path == {
        ("mythical-frontend", "POST /api/<beast>"): None,
        ("mythical-frontend", "POST"): "POST /api/<beast>",
        ("mythical-server", "POST /<beast>"): "POST",
        ("mythical-server", "INSERT unicorn"): "POST /<beast>",
        ("mythical-frontend", "publish_to_queue"): "POST /api/<beast>",
        ("mythical-recorder", "process_message"): "publish_to_queue",
    }
    lines = eventually(lambda: gateway.get("logs", trace_id=trace_id, service="mythical-frontend"))
    assert any("page request served" in line["line"] for line in lines)


def test_names_are_added_listed_and_removed(suite: Suite) -> None:
    """Status and body are the server's; links lead to the frontend."""
    name = new_name()
    assert suite.ask("/api/owlbear", "POST", name).status == 201
    assert suite.ask("/api/owlbear", "POST", f"{name}_b").status == 201
    page = suite.ask("/api/owlbear?limit=1")
    assert json.loads(page.text) == [{"name": f"{name}_b"}]
    following = re.fullmatch(r'<(/api/owlbear\?[^>]+)>; rel="next"', page.headers["Link"])
    assert following
    assert json.loads(suite.ask(following[1]).text)[0] == {"name": name}
    assert suite.ask("/api/owlbear", "DELETE", name).status == 204
    assert name not in [row["name"] for row in json.loads(suite.ask("/api/owlbear").text)]


def test_the_page_gets_the_servers_reason_for_a_rejection(suite: Suite) -> None:
    """The response is a problem (RFC 9457), whose detail the page shows."""
    name = new_name()
    suite.ask("/api/manticore", "POST", name)
    for status, response in {
        409: suite.ask("/api/manticore", "POST", name),
        400: suite.ask("/api/manticore", "POST", 7),
        404: suite.ask("/api/dragonfly"),
        405: suite.ask("/api/manticore", "PUT", name),
        413: suite.ask("/api/manticore", "POST", "x" * 20_000),
    }.items():
        assert (response.status, response.headers["Content-Type"]) == (status, PROBLEM)
        assert json.loads(response.text)["detail"]


def test_requests_are_rejected_while_the_server_is_unavailable(postgres: Postgres, tmp_path: Path) -> None:
    """The response has Retry-After; the page itself is always served, and requests work after the outage."""
    with own_database(postgres) as name, fleet(tmp_path, SILENT, database_settings(postgres, name)) as services:
        server = services.start("server")
        services.start("frontend", "/healthz", **requests_to(server), **unreachable_broker())
        frontend = Suite(services, services.running[-1])
        assert frontend.ask("/api/unicorn").status == 200
        server.stop()
        response = frontend.ask("/api/unicorn")
        assert (response.status, response.headers["Retry-After"]) == (502, "1")
        assert "cannot be reached" in json.loads(response.text)["detail"]
        assert frontend.ask("/").status == 200
        ready = frontend.ask("/readyz")
        assert (ready.status, "cannot be reached" in ready.text) == (503, True)
        services.start("server", HTTP_PORT=server.base_url.rpartition(":")[2])
        eventually(lambda: frontend.ask("/api/unicorn").status == 200)


def unreachable_broker() -> dict[str, str]:
    """Return the environment of a service without a broker, which the page doesn't need."""
    return {"MYTHICAL_QUEUE_HOST": "127.0.0.1", "MYTHICAL_QUEUE_HOST_PORT": "1"}


def test_a_request_to_a_silent_server_times_out_within_seconds(tmp_path: Path) -> None:
    """The page gets 502; readiness fails sooner."""
    with silent_server() as port, fleet(tmp_path, SILENT, unreachable_broker()) as services:
        services.start("frontend", "/healthz", MYTHICAL_SERVER_HOST_PORT=f"127.0.0.1:{port}")
        frontend = Suite(services, services.running[-1])
        start = time.monotonic()
        assert frontend.ask("/readyz").status == 503
        assert frontend.ask("/api/unicorn").status == 502
        assert time.monotonic() - start < 60  # 6 s, on a machine that is not busy


def test_hostile_requests_add_no_series_and_no_span_names(suite: Suite, gateway: Gateway) -> None:
    """Callers' paths and methods are in no label, no span name and no stream."""
    tokens = []
    for template in HOSTILE:
        for prefix in ("/", "/api/", "/static/"):
            tokens.append(f"x{secrets.token_hex(8)}")
            head, _, body = (
                template.replace(" /", f" {prefix}", 1).format(random=tokens[-1], port=1).partition("\r\n\r\n")
            )
            head += "" if "Host:" in head else "\r\nHost: frontend"
            send(suite.frontend, f"{head}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}")
    last, headers = traceparent()
    suite.ask("/", **headers)
    eventually(lambda: spans_of(gateway, last))

    def received(what: str) -> list[dict[str, Any]]:
        return own(gateway.get(what, service="mythical-frontend", limit=5000), suite.services.namespace)

    labels = [json.dumps([point["attributes"] for point in metric["points"]]) for metric in received("metrics")]
    assert labels
    seen = [*labels, *(span["name"] for span in received("spans")), *(str(line["labels"]) for line in received("logs"))]
    assert not [text for text in seen if any(token in text for token in tokens)]


def test_the_gateway_receives_a_browsers_signals_in_their_trace(suite: Suite, gateway: Gateway) -> None:
    """The browser's span is the parent of the frontend's; its error is a log line of the trace."""
    trace_id, headers = traceparent()
    span_id = headers["traceparent"].split("-")[2]
    name = new_name()
    assert suite.ask("/api/unicorn", "POST", name, **headers).status == 201
    now = time.time_ns()
    moment = datetime.fromtimestamp(now / 1e9, UTC).isoformat()
    ids = {"traceId": trace_id, "spanId": span_id}
    span = {
        **ids,
        "name": "HTTP POST",
        "kind": 3,
        "startTimeUnixNano": str(now - 5_000_000),
        "endTimeUnixNano": str(now),
    }
    service = {"attributes": [{"key": "service.name", "value": {"stringValue": "mythical-browser"}}]}
    payload = {
        "meta": {"app": {"name": "mythical-browser"}, "session": {"id": name}},
        "traces": {"resourceSpans": [{"resource": service, "scopeSpans": [{"spans": [span]}]}]},
        "exceptions": [
            {
                "type": "TypeError",
                "value": name,
                "timestamp": moment,
                "trace": {"trace_id": trace_id, "span_id": span_id},
            }
        ],
    }
    url = f"http://127.0.0.1:{gateway.ports['faro']}"
    sent = ask(url, "/collect", "POST", body=json.dumps(payload), headers=JSON | {"Origin": ORIGIN})
    assert (sent.status, sent.headers["Access-Control-Allow-Origin"]) == (202, ORIGIN)
    spans = eventually(lambda: complete(gateway, trace_id, 7))
    services = {span["span_id"]: span["service"] for span in spans}
    called = {(services.get(span["parent_span_id"]), span["service"]) for span in spans}
    assert {(None, "mythical-browser"), ("mythical-browser", "mythical-frontend")} <= called
    [line] = gateway.get("logs", trace_id=trace_id, service="mythical-browser")
    assert name in line["line"]


def test_bad_payloads_are_rejected_and_counted_and_affect_nothing_else(suite: Suite, gateway: Gateway) -> None:
    """Other signals arrive during payloads that are too large, malformed, from other pages, or too many."""

    def send_faro(body: bytes, **headers: str) -> int:
        url = f"http://127.0.0.1:{gateway.ports['faro']}"
        return ask(url, "/collect", "POST", body=body, headers=JSON | {"Origin": ORIGIN} | headers).status

    def rejected() -> dict[str, int]:
        counts: dict[str, int] = gateway.get("summary")["rejected"]["faro"]
        return counts

    before = rejected()
    assert send_faro(b'{"meta": {}, "logs": "' + b"x" * 2_000_000 + b'"}') == 413
    assert send_faro(b'{"meta": ') == 400
    assert send_faro(b'{"meta": {}}', Origin="http://elsewhere.example") == 403
    trace_id, headers = traceparent()
    statuses = {send_faro(b'{"meta": {}}') for _ in range(5)}
    with ThreadPoolExecutor(8) as pool:
        statuses |= set(pool.map(lambda _: send_faro(b'{"meta": {}}'), range(2_000)))
    assert statuses <= {202, 429}
    assert suite.ask("/api/unicorn", **headers).status == 200
    assert eventually(lambda: spans_of(gateway, trace_id))
    rejected_now = {status: count - before.get(status, 0) for status, count in rejected().items()}
    assert (rejected_now["413"], rejected_now["400"], rejected_now["403"]) == (1, 1, 1)
    assert statuses == {202} or rejected_now["429"] > 0
