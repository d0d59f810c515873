"""How old the latest of a signal is, by what a back end answers."""

import json
import time
from collections.abc import Iterator

import pytest

from doctor import backends
from tests.unit.services.http_server import Server


@pytest.fixture
def loki() -> Iterator[Server]:
    """A Loki whose latest line claims to be 40 minutes and 5 seconds old."""
    server = Server()
    claimed = str(int((time.time() - 2405) * 1e9))
    server.body = json.dumps({"data": {"result": [{"values": [[claimed, "a line"]]}]}}).encode()
    yield server
    server.close()


@pytest.mark.parametrize(
    ("service", "age_s"), [("mythical-requester", 5), ("mythical-server", 2405), ("mythical-recorder", 2405)]
)
def test_only_the_requesters_lines_may_be_shifted(loki: Server, service: str, age_s: float) -> None:
    """A server that fell silent 40 minutes ago would otherwise be fresh for a minute, and late by too little then."""
    age = backends.logs(f"http://127.0.0.1:{loki.address[1]}", service)
    assert age == pytest.approx(age_s, abs=300)
