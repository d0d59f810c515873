"""Hostile requests to what is not the API: the pages for machines, the switches of the faults, and their page."""

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
from tests.failure.hostile import MACHINES, SWITCHES, Attacker, filled
from tests.failure.switch_page import switch_page
from tests.integration.conftest import Service
from tests.integration.service_support import JSON, SILENT, ask, fleet

pytestmark = pytest.mark.timeout(300)

ROUNDS = 12
SERVICES = ("server", "requester", "recorder", "frontend")
# One of each service's faults, and how a request of a page elsewhere gives itself away.
FAULT = {"server": "slow_query", "requester": "slow_publish", "recorder": "slow_processing", "frontend": "slow_page"}
FOREIGN = (
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
SETTLED_MB = 6.0


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Service]]:
    """The services without database and broker, which these pages do not need."""
    # The requester makes no request meanwhile, since each makes series of its own.
    with fleet(tmp_path_factory.mktemp("others"), SILENT, {"REQUESTER_START": "3600"}) as started:
        launched = {name: started.launch(name, until="/healthz") for name in SERVICES}
        started.ready()
        yield launched


@pytest.fixture(scope="module")
def page(services: dict[str, Service], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page of switches, before these services."""
    told = {f"WORKSHOP_{name.upper()}": service.base_url for name, service in services.items()}
    with switch_page(tmp_path_factory.mktemp("page"), **told) as url:
        yield url


def strengths(service: Service) -> dict[str, tuple[float, float | None]]:
    """How each fault of the service is set."""
    told = json.loads(ask(service.base_url, "/faults").body)["faults"]
    return {each["name"]: (each["strength"], each["seconds_left"]) for each in told}


def series(service: Service) -> set[str]:
    """Names and labels on the service's page of metrics."""
    lines = ask(service.base_url, "/metrics").text.splitlines()
    return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}


@pytest.mark.parametrize("name", SERVICES)
def test_the_pages_for_machines_take_no_harm(name: str, services: dict[str, Service], measured: Measured) -> None:
    """No 5xx, nothing of the inside in an answer, no fault set, no new series, memory flat."""
    service = services[name]
    attacker = Attacker(service.base_url)
    before_set = strengths(service)
    for request in filled(MACHINES, len(MACHINES) * 3):
        attacker.send(request.replace(b"FAULT", FAULT[name].encode()))
    before, before_mb = series(service), used(service).own_mb
    for request in filled(MACHINES, len(MACHINES) * ROUNDS):
        attacker.send(request.replace(b"FAULT", FAULT[name].encode()))
    attacker.close()
    after_mb = used(service).own_mb

    assert [status for status in attacker.statuses if status >= 500] == []
    assert (attacker.unanswered, attacker.given_away) == ([], [])
    assert strengths(service) == before_set
    assert series(service) == before
    assert after_mb - before_mb < SETTLED_MB
    log = service.process.log.read_text(encoding="utf-8")
    assert not re.search(r"forged|unhandled|Traceback", log)
    answered = ", ".join(f"{status}: {count}" for status, count in sorted(attacker.statuses.items()))
    measured(f"{name}: {attacker.statuses.total()} requests of {len(MACHINES)} kinds; {answered}; "
             f"memory {before_mb:.1f} → {after_mb:.1f} MB")  # fmt: skip


def test_the_page_of_switches_takes_no_harm(page: str, services: dict[str, Service], measured: Measured) -> None:
    """The same of what stands between a browser and the services."""
    before = {name: strengths(service) for name, service in services.items()}
    attacker = Attacker(page)
    for request in filled(SWITCHES, len(SWITCHES) * ROUNDS):
        attacker.send(request.replace(b"FAULT", b"slow_query"))
    attacker.close()
    assert [status for status in attacker.statuses if status >= 500] == []
    assert (attacker.unanswered, attacker.given_away) == ([], [])
    assert {name: strengths(service) for name, service in services.items()} == before
    answered = ", ".join(f"{status}: {count}" for status, count in sorted(attacker.statuses.items()))
    measured(f"{attacker.statuses.total()} requests of {len(SWITCHES)} kinds; {answered}")


def test_a_service_that_is_away_is_no_fault_of_the_page(tmp_path: Path) -> None:
    """It says so, in a sentence, and is not broken itself."""
    away = f"http://127.0.0.1:{free_port()}"
    with switch_page(tmp_path, **{f"WORKSHOP_{name.upper()}": away for name in SERVICES}) as url:
        answer = ask(url, "/api/faults")
    assert (answer.status, answer.headers["Content-Type"]) == (502, "application/problem+json")
    assert "Traceback" not in (tmp_path / "page.log").read_text(encoding="utf-8")


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_page_elsewhere_switches_no_fault_on_this_machine(
    headers: dict[str, str], page: str, services: dict[str, Service]
) -> None:
    """Neither under its own name, made to lead here, nor under ours; neither at a service nor at the page."""
    before = {name: strengths(service) for name, service in services.items()}
    doors = [(service.base_url, "/faults", FAULT[name]) for name, service in services.items()]
    for url, path, fault in [*doors, (page, "/api/faults", "slow_query")]:
        body = '{"strength": 1}'
        # 400 is what a server makes of a Host that it cannot read at all.
        for status in (
            foreign(url, "PUT", f"{path}/{fault}", JSON | headers, body),
            foreign(url, "DELETE", path, headers),
            foreign(url, "GET", path, headers),
        ):
            assert status in (400, 403), (url, status)
    assert {name: strengths(service) for name, service in services.items()} == before


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_what_a_form_can_send_switches_nothing(kind: str, page: str, services: dict[str, Service]) -> None:
    """A browser asks nobody before it sends one of these; for JSON it would have to ask, and gets no permission."""
    doors = [(service.base_url, "/faults", FAULT[name]) for name, service in services.items()]
    for url, path, fault in [*doors, (page, "/api/faults", "slow_query")]:
        headers = {"Content-Type": kind} if kind else {}
        assert ask(url, f"{path}/{fault}", "PUT", body='{"strength": 1}', headers=headers).status in (400, 415)
        override = headers | {"X-HTTP-Method-Override": "PUT"}
        assert ask(url, f"{path}/{fault}", "POST", body='{"strength": 1}', headers=override).status == 405
        asked = {"Origin": "http://evil.example", "Access-Control-Request-Method": "PUT"}
        permission = ask(url, f"{path}/{fault}", "OPTIONS", headers=asked)
        assert [name for name in permission.headers if name.lower().startswith("access-control")] == []


@pytest.mark.parametrize("name", SERVICES)
def test_a_picture_on_a_page_elsewhere_has_no_profile_taken(name: str, services: dict[str, Service]) -> None:
    """Each would slow the service down; a scrape, which says nothing of sites, is served under any name."""
    url = services[name].base_url
    for path in ("/debug/pprof/profile", "/debug/pprof/heap"):
        assert foreign(url, "GET", f"{path}?seconds=0.01", {"Sec-Fetch-Site": "cross-site"}) == 403
        assert foreign(url, "GET", f"{path}?seconds=0.01", {"Host": "mythical-server.example:4000"}) == 200


def test_whoever_sits_at_this_machine_may_switch(page: str, services: dict[str, Service]) -> None:
    """Or all of the above would prove nothing."""
    for name, service in services.items():
        path = f"/faults/{FAULT[name]}"
        assert ask(service.base_url, path, "PUT", body='{"strength": 0.5}', headers=JSON).status == 200
        assert strengths(service)[FAULT[name]][0] == 0.5
        own = JSON | {"Origin": page, "Sec-Fetch-Site": "same-origin"}
        assert ask(page, f"/api/faults/{FAULT[name]}", "PUT", body='{"strength": 1}', headers=own).status == 204
        assert strengths(service)[FAULT[name]][0] == 1
        assert ask(service.base_url, path, "DELETE").status == 204


def foreign(url: str, method: str, path: str, headers: dict[str, str], body: str | None = None) -> int:
    """Make a request with exactly these headers, the Host among them if it is there; give the status."""
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
