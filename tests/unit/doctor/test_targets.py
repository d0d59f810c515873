"""Targets that Alloy failed to scrape are reported by the doctor, which queries a stand-in for Mimir."""

import json
from collections.abc import Iterator

import pytest

from doctor.backends import failed_targets
from doctor.containers import RUNNING, Container
from doctor.report import BROKEN
from tests.unit.services.http_server import Server

QUEUE = {"mythical-queue": Container("mythical-queue", RUNNING)}


@pytest.fixture
def mimir() -> Iterator[Server]:
    """Start a server that responds to each query with RabbitMQ."""
    server = Server()
    server.body = json.dumps({"data": {"result": [{"metric": {"service": "rabbitmq"}}] * 2}}).encode()
    yield server
    server.close()


def found(mimir: Server, boxes: dict[str, Container]) -> list[tuple[str, str]]:
    """Return what is broken, and the remedies."""
    findings = failed_targets(f"http://127.0.0.1:{mimir.address[1]}", boxes)
    assert {finding.state for finding in findings} <= {BROKEN}
    return [(finding.what, finding.remedy) for finding in findings]


@pytest.mark.parametrize("boxes", [{}, QUEUE], ids=["unknown to Docker", "its container runs"])
def test_a_failed_target_is_reported_once_with_a_remedy(mimir: Server, boxes: dict[str, Container]) -> None:
    """RabbitMQ is scraped at two addresses, and its container has another name than its metrics."""
    (broker, look), (database, remedy), (statements, library) = found(mimir, boxes)
    assert (broker, look) == ("metrics of rabbitmq", "docker compose logs --tail 20 mythical-queue")
    assert database == "metrics of postgres"
    assert remedy.endswith("-f /docker-entrypoint-initdb.d/monitor.sql")
    assert statements == "statements of postgres"
    assert "shared_preload_libraries" in library


def test_a_stopped_container_is_not_reported_as_a_failed_target(mimir: Server) -> None:
    """The container is reported by its own finding and by the cells of its data."""
    ended = {"mythical-queue": Container("mythical-queue", "exited", exit_code=1)}
    assert [what for what, _ in found(mimir, ended)] == ["metrics of postgres", "statements of postgres"]


@pytest.mark.parametrize("body", [b"[1]", b"{}", b'{"data": {"result": [1]}}', b"hello"])
def test_an_unrelated_response_has_no_failed_targets(mimir: Server, body: bytes) -> None:
    """This holds for any JSON."""
    mimir.body = body
    assert found(mimir, {}) == []
