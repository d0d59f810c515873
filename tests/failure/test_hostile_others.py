"""Hostile requests to everything except the API: admin endpoints, fault APIs, and the page of the injected faults."""

import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from local.ports import free_port
from tests.failure.conftest import Measured
from tests.failure.costs import used
from tests.failure.fault_page import fault_page
from tests.failure.hostile import ADMIN_TEMPLATES, FAULT_PAGE_TEMPLATES, Attacker, filled
from tests.integration.conftest import Service
from tests.integration.service_support import JSON, SILENT, ask, fleet

pytestmark = pytest.mark.timeout(300)

ROUNDS = 12
SERVICES = ("server", "requester", "recorder", "frontend")
# A fault of each service, and headers by which a server recognizes a request of another site's page.
FAULT = {"server": "slow_query", "requester": "slow_publish", "recorder": "slow_processing", "frontend": "slow_page"}
CROSS_SITE = (
    {"Host": "evil.example"},
    {"Host": "localhost.evil.example:4000"},
    {"Host": "127.0.0.1.evil.example"},
    {"Host": "localhost, evil.example"},
    {"Host": ""},
    {"Host": "["},
    {"Origin": "http://evil.example"},
    {"Origin": "https://localhost"},
    {"Origin": "null"},
    {"Origin": "http://["},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
)
MAX_GROWTH_MB = 6.0


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Service]]:
    """The services without database and broker, which these endpoints don't need."""
    # The requester makes no request meanwhile, because each request would add series.
    with fleet(tmp_path_factory.mktemp("others"), SILENT, {"REQUESTER_START": "3600"}) as started:
        launched = {name: started.launch(name, until="/healthz") for name in SERVICES}
        started.ready()
        yield launched


@pytest.fixture(scope="module")
def page(services: dict[str, Service], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page of the injected faults of these services."""
    settings = {f"WORKSHOP_{name.upper()}": service.base_url for name, service in services.items()}
    with fault_page(tmp_path_factory.mktemp("page"), **settings) as url:
        yield url


def fault_values(service: Service) -> dict[str, tuple[float, float | None]]:
    """Return value and remaining seconds of each fault of the service."""
    faults = json.loads(ask(service.base_url, "/faults").body)["faults"]
    return {each["name"]: (each["strength"], each["seconds_left"]) for each in faults}


def series(service: Service) -> set[str]:
    """Return names and labels of all series at the service's /metrics."""
    lines = ask(service.base_url, "/metrics").text.splitlines()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}


@pytest.mark.parametrize("name", SERVICES)
def test_hostile_requests_do_not_harm_the_admin_endpoints(
    name: str, services: dict[str, Service], measured: Measured
) -> None:
    """No 5xx, no internals in a response, no fault set, no new series, flat memory."""
    service = services[name]
    attacker = Attacker(service.base_url)
    values_before = fault_values(service)
    for request in filled(ADMIN_TEMPLATES, len(ADMIN_TEMPLATES) * 3):
        attacker.send(request.replace(b"FAULT", FAULT[name].encode()))
    before, before_mb = series(service), used(service).own_mb
    for request in filled(ADMIN_TEMPLATES, len(ADMIN_TEMPLATES) * ROUNDS):
        attacker.send(request.replace(b"FAULT", FAULT[name].encode()))
    attacker.close()
    after_mb = used(service).own_mb

    assert [status for status in attacker.statuses if status >= 500] == []
    assert (attacker.unanswered, attacker.leaked) == ([], [])
    assert fault_values(service) == values_before
    assert series(service) == before
    assert after_mb - before_mb < MAX_GROWTH_MB
    log = service.process.log.read_text(encoding="utf-8")
    assert not re.search(r"forged|unhandled|Traceback", log)
    counts = ", ".join(f"{status}: {count}" for status, count in sorted(attacker.statuses.items()))
    measured(f"{name}: {attacker.statuses.total()} requests of {len(ADMIN_TEMPLATES)} kinds; {counts}; "
             f"memory {before_mb:.1f} → {after_mb:.1f} MB")  # fmt: skip


def test_hostile_requests_do_not_harm_the_fault_page(
    page: str, services: dict[str, Service], measured: Measured
) -> None:
    """The same holds for the page between a browser and the services."""
    before = {name: fault_values(service) for name, service in services.items()}
    attacker = Attacker(page)
    for request in filled(FAULT_PAGE_TEMPLATES, len(FAULT_PAGE_TEMPLATES) * ROUNDS):
        attacker.send(request.replace(b"FAULT", b"slow_query"))
    attacker.close()
    assert [status for status in attacker.statuses if status >= 500] == []
    assert (attacker.unanswered, attacker.leaked) == ([], [])
    assert {name: fault_values(service) for name, service in services.items()} == before
    counts = ", ".join(f"{status}: {count}" for status, count in sorted(attacker.statuses.items()))
    measured(f"{attacker.statuses.total()} requests of {len(FAULT_PAGE_TEMPLATES)} kinds; {counts}")


def test_fault_page_answers_502_when_a_service_is_unavailable(tmp_path: Path) -> None:
    """The response describes the problem, and the page's log has no traceback."""
    unavailable = f"http://127.0.0.1:{free_port()}"
    with fault_page(tmp_path, **{f"WORKSHOP_{name.upper()}": unavailable for name in SERVICES}) as url:
        response = ask(url, "/api/faults")
    assert (response.status, response.headers["Content-Type"]) == (502, "application/problem+json")
    assert "Traceback" not in (tmp_path / "page.log").read_text(encoding="utf-8")


@pytest.mark.parametrize("headers", CROSS_SITE, ids=str)
def test_another_sites_page_cannot_change_a_fault(
    headers: dict[str, str], page: str, services: dict[str, Service]
) -> None:
    """It can't with its own host name, resolved to this machine, nor with ours; at a service or at the page."""
    before = {name: fault_values(service) for name, service in services.items()}
    targets = [(service.base_url, "/faults", FAULT[name]) for name, service in services.items()]
    for url, path, fault in [*targets, (page, "/api/faults", "slow_query")]:
        body = '{"strength": 1}'
        # A server answers 400 for a Host that it cannot parse.
        for status in (
            cross_site(url, "PUT", f"{path}/{fault}", JSON | headers, body),
            cross_site(url, "DELETE", path, headers),
            cross_site(url, "GET", path, headers),
        ):
            assert status in (400, 403), (url, status)
    assert {name: fault_values(service) for name, service in services.items()} == before


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_a_form_cannot_change_a_fault(kind: str, page: str, services: dict[str, Service]) -> None:
    """A browser sends these content types without a preflight; for JSON it needs one, and the preflight is denied."""
    targets = [(service.base_url, "/faults", FAULT[name]) for name, service in services.items()]
    for url, path, fault in [*targets, (page, "/api/faults", "slow_query")]:
        headers = {"Content-Type": kind} if kind else {}
        assert ask(url, f"{path}/{fault}", "PUT", body='{"strength": 1}', headers=headers).status in (400, 415)
        override = headers | {"X-HTTP-Method-Override": "PUT"}
        assert ask(url, f"{path}/{fault}", "POST", body='{"strength": 1}', headers=override).status == 405
        preflight = {"Origin": "http://evil.example", "Access-Control-Request-Method": "PUT"}
        permission = ask(url, f"{path}/{fault}", "OPTIONS", headers=preflight)
        assert [name for name in permission.headers if name.lower().startswith("access-control")] == []


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_on_another_sites_page_cannot_start_a_profile(name: str, services: dict[str, Service]) -> None:
    """A profile would slow the service down; a scrape, without headers about sites, is served under any host name."""
    url = services[name].base_url
    for path in ("/debug/pprof/profile", "/debug/pprof/heap"):
        assert cross_site(url, "GET", f"{path}?seconds=0.01", {"Sec-Fetch-Site": "cross-site"}) == 403
        assert cross_site(url, "GET", f"{path}?seconds=0.01", {"Host": "mythical-server.example:4000"}) == 200


def test_a_user_of_this_machine_can_change_a_fault(page: str, services: dict[str, Service]) -> None:
    """Without this, the tests above would prove nothing."""
    for name, service in services.items():
        path = f"/faults/{FAULT[name]}"
        assert ask(service.base_url, path, "PUT", body='{"strength": 0.5}', headers=JSON).status == 200
        assert fault_values(service)[FAULT[name]][0] == 0.5
        same_origin = JSON | {"Origin": page, "Sec-Fetch-Site": "same-origin"}
        assert ask(page, f"/api/faults/{FAULT[name]}", "PUT", body='{"strength": 1}', headers=same_origin).status == 204
        assert fault_values(service)[FAULT[name]][0] == 1
        assert ask(service.base_url, path, "DELETE").status == 204


def cross_site(url: str, method: str, path: str, headers: dict[str, str], body: str | None = None) -> int:
    """Send a request with exactly these headers, including a Host; return the status."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=15)
    connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    if body:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body.encode() if body else None)
    try:
        return connection.getresponse().status
    finally:
        connection.close()
