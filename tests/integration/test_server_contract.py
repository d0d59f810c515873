"""The server matches its openapi.yaml: each documented status is produced, and every response is as documented."""

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import jsonschema  # type: ignore[import-untyped]  # its stubs are a separate package
import pytest
import yaml
from openapi_spec_validator import validate

from common.core.endpoints import MYTHICAL
from common.web.problems import MAX_BODY_BYTES
from local.ports import free_port
from local.servers.postgres import Postgres
from local.state import CHECKOUT
from services.server.request_parsing import DEFAULT_PAGE_SIZE, MAX_ID, MAX_NAME_LENGTH, MAX_PAGE_SIZE
from tests.integration.conftest import Service
from tests.integration.service_support import JSON, SILENT, Response, ask, database_settings, fleet, own_database

DOCUMENT: dict[str, Any] = yaml.safe_load((CHECKOUT / "services/server/openapi.yaml").read_text(encoding="utf-8"))

# The servers: one without faults, one whose injected fault always triggers and whose debug endpoints are disabled, and
# one without a database.
HEALTHY, FAULTY, DISCONNECTED = "healthy", "faulty", "disconnected"


@dataclass(frozen=True)
class Case:
    """A request, and its documented response."""

    operation: str
    path: str
    method: str
    status: int
    body: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    server: str = HEALTHY

    def __str__(self) -> str:
        return f"{self.operation}-{self.status}-{self.server}"


NAME = '{"name": "amber_kind_lynx_fen"}'
PROFILE, HEAP = "/debug/pprof/profile", "/debug/pprof/heap"
CROSS_SITE = {"Sec-Fetch-Site": "cross-site"}

CASES = [
    Case("get /{beast}", "/unicorn", "GET", 200),
    Case("get /{beast}", "/beholder?limit=1", "GET", 200),
    Case("get /{beast}", "/unicorn?limit=0", "GET", 400),
    Case("get /{beast}", "/hydra", "GET", 404),
    Case("get /{beast}", "/unicorn", "GET", 503, server=DISCONNECTED),
    Case("head /{beast}", "/unicorn", "HEAD", 200),
    Case("head /{beast}", "/unicorn?before=x", "HEAD", 400),
    Case("head /{beast}", "/hydra", "HEAD", 404),
    Case("head /{beast}", "/unicorn", "HEAD", 503, server=DISCONNECTED),
    Case("post /{beast}", "/unicorn", "POST", 201, NAME, JSON),
    Case("post /{beast}", "/unicorn", "POST", 400, "{}", JSON),
    Case("post /{beast}", "/hydra", "POST", 404, NAME, JSON),
    Case("post /{beast}", "/beholder", "POST", 409, '{"name": "taken"}', JSON),
    Case("post /{beast}", "/unicorn", "POST", 413, " " * (MAX_BODY_BYTES + 1), JSON),
    Case("post /{beast}", "/unicorn", "POST", 415, NAME, {"Content-Type": "text/plain"}),
    Case("post /{beast}", "/unicorn", "POST", 500, NAME, JSON, FAULTY),
    Case("post /{beast}", "/unicorn", "POST", 503, NAME, JSON, DISCONNECTED),
    Case("delete /{beast}", "/unicorn", "DELETE", 204, NAME, JSON),
    Case("delete /{beast}", "/unicorn", "DELETE", 400, "[]", JSON),
    Case("delete /{beast}", "/hydra", "DELETE", 404, NAME, JSON),
    Case("delete /{beast}", "/unicorn", "DELETE", 413, " " * (MAX_BODY_BYTES + 1), JSON),
    Case("delete /{beast}", "/unicorn", "DELETE", 415, NAME),
    Case("delete /{beast}", "/unicorn", "DELETE", 503, NAME, JSON, DISCONNECTED),
    Case("options /{beast}", "/unicorn", "OPTIONS", 200),
    Case("options /{beast}", "/hydra", "OPTIONS", 404),
    Case("get /healthz", "/healthz", "GET", 200),
    Case("get /healthz", "/healthz", "GET", 200, server=DISCONNECTED),
    Case("get /readyz", "/readyz", "GET", 200),
    Case("get /readyz", "/readyz", "GET", 503, server=DISCONNECTED),
    Case("get /metrics", "/metrics", "GET", 200),
    Case("get /metrics", "/metrics", "GET", 200, headers={"Accept": "application/openmetrics-text; version=1.0.0"}),
    Case(f"get {PROFILE}", f"{PROFILE}?seconds=0.05", "GET", 200),
    Case(f"get {PROFILE}", f"{PROFILE}?seconds=nan", "GET", 400),
    Case(f"get {PROFILE}", PROFILE, "GET", 403, headers=CROSS_SITE),
    Case(f"get {PROFILE}", PROFILE, "GET", 404, server=FAULTY),
    Case(f"get {HEAP}", f"{HEAP}?seconds=0.05", "GET", 200),
    Case(f"get {HEAP}", f"{HEAP}?seconds=61", "GET", 400),
    Case(f"get {HEAP}", HEAP, "GET", 403, headers=CROSS_SITE),
    Case(f"get {HEAP}", HEAP, "GET", 404, server=FAULTY),
]
# These need a concurrent request, and have a separate test.
OTHER_TEST = {(f"get {PROFILE}", "503"), (f"get {HEAP}", "503")}


@pytest.fixture(scope="module")
def servers(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Service]]:
    """The three servers for the cases."""
    folder = tmp_path_factory.mktemp("servers")
    with own_database(postgres) as name, fleet(folder, SILENT, database_settings(postgres, name)) as started:
        servers = {
            HEALTHY: started.launch("server", FAULT_NULL_NAME="0"),
            FAULTY: started.launch("server", FAULT_NULL_NAME="1", DEBUG_ENDPOINTS="false"),
            DISCONNECTED: started.launch("server", until="/healthz", MYTHICAL_DATABASE_HOST_PORT=str(free_port())),
        }
        started.ready()
        assert ask(servers[HEALTHY].base_url, "/beholder", "POST", body='{"name": "taken"}', headers=JSON).status == 201
        yield servers


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_documented_status_is_produced(case: Case, servers: Mapping[str, Service]) -> None:
    """Status, headers and body of the response match the documented operation."""
    url = servers[case.server].base_url
    response = ask(url, case.path, case.method, body=case.body, headers=case.headers)
    assert response.status == case.status, response.text
    check(documented(case.operation, case.status), response, bodiless=case.method == "HEAD")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE", "QUERY"])
def test_an_undocumented_method_is_rejected(method: str, servers: Mapping[str, Service]) -> None:
    """The response has the allowed methods; an unknown path gets 404."""
    response = ask(servers[HEALTHY].base_url, "/unicorn", method, body=NAME, headers=JSON)
    assert response.status == 405
    check(DOCUMENT["components"]["responses"]["MethodNotAllowed"], response)
    for path in ("/hydra", "/", "/unicorn/1", "/%0A", "/a/%0A"):
        not_found = ask(servers[HEALTHY].base_url, path, method, body=NAME, headers=JSON)
        assert not_found.status == 404
        check(DOCUMENT["components"]["responses"]["UnknownBeast"], not_found)


@pytest.mark.parametrize("path", [path for path in DOCUMENT["paths"] if path != "/{beast}"])
def test_the_admin_endpoints_are_read_only(path: str, servers: Mapping[str, Service]) -> None:
    """They accept only GET."""
    response = ask(servers[HEALTHY].base_url, path, "POST")
    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
    conforms(json.loads(response.body), DOCUMENT["components"]["schemas"]["Problem"])


def test_each_documented_status_has_a_case() -> None:
    """Every documented status is produced by a test."""
    document = {
        (f"{method} {path}", status)
        for path, operations in DOCUMENT["paths"].items()
        for method, operation in operations.items()
        if method != "parameters"
        for status in operation["responses"]
    }
    assert document == {(case.operation, str(case.status)) for case in CASES} | OTHER_TEST


@pytest.mark.parametrize("path", [PROFILE, HEAP])
def test_one_profile_is_taken_at_a_time(path: str, servers: Mapping[str, Service]) -> None:
    """Of two concurrent requests, one gets 503 with Retry-After: two samplers would measure each other."""
    with ThreadPoolExecutor(2) as callers:
        responses = list(callers.map(lambda _: ask(servers[HEALTHY].base_url, f"{path}?seconds=1.5"), range(2)))
    accepted, rejected = sorted(responses, key=lambda response: response.status)
    check(documented(f"get {path}", 200), accepted)
    check(documented(f"get {path}", 503), rejected)


def test_the_document_is_valid_openapi() -> None:
    """Tools for OpenAPI 3.1 can read it."""
    validate(DOCUMENT)


def test_the_document_and_the_code_have_the_same_limits() -> None:
    """The limits in the document equal the constants in the code."""
    parts = DOCUMENT["components"]
    limit, before = parts["parameters"]["limit"]["schema"], parts["parameters"]["before"]["schema"]
    assert (limit["default"], limit["maximum"], parts["schemas"]["Page"]["maxItems"]) == (
        DEFAULT_PAGE_SIZE,
        MAX_PAGE_SIZE,
        MAX_PAGE_SIZE,
    )
    assert before["maximum"] == MAX_ID
    assert parts["schemas"]["Text"]["maxLength"] == MAX_NAME_LENGTH
    assert f"{MAX_BODY_BYTES:,} bytes" in parts["requestBodies"]["Name"]["description"]
    assert tuple(parts["parameters"]["beast"]["schema"]["enum"]) == MYTHICAL.names


def documented(operation: str, status: int) -> dict[str, Any]:
    """Return the documentation of a response."""
    method, path = operation.split(" ", 1)
    return resolved(DOCUMENT["paths"][path][method]["responses"][str(status)])


def resolved(part: dict[str, Any]) -> dict[str, Any]:
    """Return the part of the document, with its reference resolved."""
    while "$ref" in part:
        names = part["$ref"].removeprefix("#/").split("/")
        part = DOCUMENT
        for name in names:
            part = part[name]
    return part


def check(described: dict[str, Any], response: Response, *, bodiless: bool = False) -> None:
    """Fail if the response does not match its documentation."""
    headers = {name: resolved(header) for name, header in described.get("headers", {}).items()}
    for name, header in headers.items():
        value = response.headers[name]
        assert value is not None or not header.get("required"), f"{name} is missing"
        if value is not None:
            conforms(int(value) if header["schema"].get("type") == "integer" else value, header["schema"])
    for name in ("Link", "Retry-After", "Allow"):
        assert name in headers or response.headers[name] is None, f"{name} is not documented here"
    if bodiless or "content" not in described:
        assert response.body == b""
        return
    content_type = response.headers.get_content_type()
    assert content_type in described["content"]
    READERS[content_type](response, described["content"][content_type].get("schema", {}))


def conforms(value: object, schema: dict[str, Any]) -> None:
    """Fail unless the value matches the schema, whose references are resolved in the document."""
    jsonschema.Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(value)


def _json(response: Response, schema: dict[str, Any]) -> None:
    body = json.loads(response.body)
    conforms(body, schema)
    if response.headers.get_content_type() == "application/problem+json":
        assert body["status"] == response.status


def _text(response: Response, schema: dict[str, Any]) -> None:
    conforms(response.text, schema)
    assert response.text.endswith("\n")


def _gzipped(response: Response, _schema: dict[str, Any]) -> None:
    assert gzip.decompress(response.body)


READERS: dict[str, Callable[[Response, dict[str, Any]], None]] = {
    "application/json": _json,
    "application/problem+json": _json,
    "application/openmetrics-text": _text,
    "text/plain": _text,
    "application/octet-stream": _gzipped,
}
