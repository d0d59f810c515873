"""Callers' data never becomes a label: two hundred hostile requests add no series, span name or log stream."""

import json
import secrets
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from local.servers.postgres import Postgres
from tests.integration.conftest import Gateway, Service, eventually
from tests.integration.service_support import Fleet, database_settings, fleet, own, own_database, spans_of, traceparent

ROUNDS = 10

# Request line, headers and body, with parts that are random in each request.
HOSTILE = [
    "GET /{random} HTTP/1.1",
    "GET /{random}/unicorn HTTP/1.1",
    "GET /unicorn/{random} HTTP/1.1",
    "GET /%0A{random} HTTP/1.1",
    "GET /%F0%9F%A6%84{random} HTTP/1.1",
    "GET /{random}?limit={random} HTTP/1.1",
    "GET /unicorn?limit={random} HTTP/1.1",
    "GET /unicorn?{random}={random} HTTP/1.1",
    "POST /{random} HTTP/1.1",
    "DELETE /{random} HTTP/1.1",
    "PUT /{random} HTTP/1.1",
    "{random} /unicorn HTTP/1.1",
    "{random} /{random} HTTP/1.1",
    "OPTIONS /{random} HTTP/1.1",
    "TRACE /unicorn HTTP/1.1",
    "GET /unicorn HTTP/1.1\r\nHost: {random}.example:{port}",
    "GET /unicorn HTTP/1.1\r\nUser-Agent: {random}\r\nX-Forwarded-For: {random}\r\nX-Forwarded-Host: {random}",
    "GET /unicorn HTTP/1.1\r\nbaggage: {random}={random}\r\ntracestate: {random}={random}",
    "GET /unicorn HTTP/1.1\r\ntraceparent: 00-{random}-{random}-01",
    'POST /unicorn HTTP/1.1\r\nContent-Type: application/json\r\n\r\n{{"name": "{random} level=error beast=dragon"}}',
]


@pytest.fixture(scope="module")
def started(postgres: Postgres, gateway: Gateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet with a separate database."""
    folder = tmp_path_factory.mktemp("services")
    with own_database(postgres) as name, fleet(folder, gateway.settings, database_settings(postgres, name)) as services:
        yield services


@pytest.fixture(scope="module")
def server(started: Fleet) -> Service:
    """A server that gets no other requests."""
    return started.start("server", FAULT_NULL_NAME="0")


class Attack:
    """Hostile requests to a server, and the server's telemetry at the gateway."""

    def __init__(self, server: Service, started: Fleet, gateway: Gateway) -> None:
        self._server = server
        self._namespace = started.namespace
        self._gateway = gateway
        self._sent = 0
        self.tokens: list[str] = []

    def round(self) -> None:
        """Send each of the hostile requests once, with new random parts."""
        for template in HOSTILE:
            token = f"x{secrets.token_hex(8)}"
            self.tokens.append(token)
            head, _, body = template.format(random=token, port=secrets.randbelow(60_000)).partition("\r\n\r\n")
            if "Host:" not in head:
                head += "\r\nHost: server"
            send(self._server, f"{head}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}")
            self._sent += 1

    def series(self) -> set[tuple[str, str]]:
        """Return all series of the server, once they count every request."""

        def all_counted() -> list[dict[str, Any]]:
            metrics = own(self._gateway.get("metrics", service="mythical-server"), self._namespace)
            counted = sum(
                point["count"]
                for metric in metrics
                if metric["name"] == "http.server.request.duration"
                for point in metric["points"]
            )
            return metrics if counted >= self._sent else []

        metrics = eventually(all_counted)
        return {
            (metric["name"], json.dumps(point["attributes"], sort_keys=True))
            for metric in metrics
            for point in metric["points"]
        }

    def received(self, what: str) -> list[dict[str, Any]]:
        """Return the server's spans or log lines."""
        return own(self._gateway.get(what, service="mythical-server", limit=5000), self._namespace)


@pytest.fixture(scope="module")
def attack(server: Service, started: Fleet, gateway: Gateway) -> Attack:
    """An attack after its first round."""
    attack = Attack(server, started, gateway)
    attack.round()
    return attack


def send(server: Service, request: str) -> bytes:
    """Send a raw request and return the response."""
    url = urlsplit(server.base_url)
    with socket.create_connection((url.hostname or "", url.port or 80), timeout=60) as connection:
        connection.sendall(request.encode())
        with connection.makefile("rb") as response:
            return response.read()


def test_hostile_requests_add_no_series(attack: Attack) -> None:
    """The first round may add series for unknown beasts and methods; further rounds add none."""
    exported = ("otel.sdk.exporter.metric_data_point.exported", "{}")  # arrives with the second export
    eventually(lambda: exported in attack.series())
    before = attack.series()
    for _ in range(ROUNDS):
        attack.round()
    after = attack.series()
    assert after == before
    for name, labels in after:
        assert not any(token in labels for token in attack.tokens), name


def test_unknown_beasts_and_methods_share_one_label_value(attack: Attack) -> None:
    """All unknown beasts have one value, and all unknown methods have one."""
    labels = [json.loads(labels) for name, labels in attack.series() if name == "mythical_request_times"]
    assert {each["beast"] for each in labels} == {"unicorn", "unknown"}
    assert {each["method"] for each in labels} <= {"GET", "POST", "DELETE", "PUT", "OPTIONS", "_OTHER"}


def test_no_span_name_contains_callers_data(attack: Attack, server: Service, gateway: Gateway) -> None:
    """Span name, method, target and status are labels of span metrics."""
    trace_id, header = traceparent()
    send(server, f"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\ntraceparent: {header['traceparent']}\r\n\r\n")
    eventually(lambda: spans_of(gateway, trace_id))
    for span in attack.received("spans"):
        values = [span["name"], *(span["attributes"].get(f"http.{key}") for key in ("method", "target", "status_code"))]
        assert not any(token in str(each) for token in attack.tokens for each in values), values


def test_no_log_stream_contains_callers_data(attack: Attack) -> None:
    """Labels of log lines have known values, and no value contains a line break."""
    lines = eventually(lambda: attack.received("logs"))
    assert {line["labels"].get("beast", "unicorn") for line in lines} == {"unicorn"}
    assert {line["labels"]["level"] for line in lines} <= {"info", "warn", "error"}
    assert not any("\n" in line["line"] for line in lines)
    for line in lines:
        assert not any(token in value for token in attack.tokens for value in line["labels"].values())


def test_an_invalid_trace_header_is_ignored(server: Service, gateway: Gateway) -> None:
    """The request is served in a new trace."""
    for header in ("00-0-0-01", "ff-" + "1" * 32 + "-" + "1" * 16 + "-01", "x" * 4000):
        response = send(
            server, f"GET /unicorn HTTP/1.1\r\nHost: x\r\nConnection: close\r\ntraceparent: {header}\r\n\r\n"
        )
        assert response.startswith(b"HTTP/1.1 200")
    assert spans_of(gateway, "1" * 32) == []


@pytest.mark.parametrize("host", ["", "a" * 3000, "x:99999999", "[::1", "a b", "x\ty", "%00", "ünï", ":", "[::1]:80"])
def test_an_unusual_host_is_served_or_rejected(host: str, server: Service) -> None:
    """With any Host header, the response is not a server error."""
    response = send(server, f"GET /unicorn HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
    assert response.split()[1] in (b"200", b"400"), response
