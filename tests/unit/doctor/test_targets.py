"""What could not be measured beside the services, in the doctor's words; the questions are asked of a real Mimir."""

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
    """A server that answers each question with RabbitMQ."""
    server = Server()
    server.body = json.dumps({"data": {"result": [{"metric": {"service": "rabbitmq"}}] * 2}}).encode()
    yield server
    server.close()


def found(mimir: Server, boxes: dict[str, Container]) -> list[tuple[str, str]]:
    """What is broken, and what to do."""
    told = failed_targets(f"http://127.0.0.1:{mimir.address[1]}", boxes)
    assert {finding.state for finding in told} <= {BROKEN}
    return [(finding.what, finding.remedy) for finding in told]


@pytest.mark.parametrize("boxes", [{}, QUEUE], ids=["Docker does not tell", "its container runs"])
def test_what_could_not_be_measured_is_told_once_with_where_to_look(mimir: Server, boxes: dict[str, Container]) -> None:
    """RabbitMQ is asked at two addresses; its container has another name than its metrics."""
    (broker, look), (database, remedy), (statements, library) = found(mimir, boxes)
    assert (broker, look) == ("metrics of rabbitmq", "docker compose logs --tail 20 mythical-queue")
    assert database == "metrics of postgres"
    assert remedy.endswith("-f /docker-entrypoint-initdb.d/monitor.sql")
    assert statements == "statements of postgres"
    assert "shared_preload_libraries" in library


def test_a_container_that_does_not_run_is_told_elsewhere(mimir: Server) -> None:
    """By its own finding, and by the cells of what it keeps."""
    ended = {"mythical-queue": Container("mythical-queue", "exited", exit_code=1)}
    assert [what for what, _ in found(mimir, ended)] == ["metrics of postgres", "statements of postgres"]


@pytest.mark.parametrize("body", [b"[1]", b"{}", b'{"data": {"result": [1]}}', b"hello"])
def test_nothing_is_told_by_a_stranger(mimir: Server, body: bytes) -> None:
    """Whatever its JSON is."""
    mimir.body = body
    assert found(mimir, {}) == []
