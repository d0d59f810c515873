"""The doctor reads the age of the latest data from a backend's response."""

import json
import time
from collections.abc import Iterator

import pytest

from doctor import backends
from tests.unit.services.http_server import Server


@pytest.fixture
def loki() -> Iterator[Server]:
    """Start a Loki whose latest line has a timestamp of 40 minutes and 5 seconds ago."""
    server = Server()
    claimed = str(int((time.time() - 2405) * 1e9))
    server.body = json.dumps({"data": {"result": [{"values": [[claimed, "a line"]]}]}}).encode()
    yield server
    server.close()


@pytest.mark.parametrize(
    ("service", "age_s"), [("mythical-requester", 5), ("mythical-server", 2405), ("mythical-recorder", 2405)]
)
def test_only_timestamps_of_the_requester_may_be_shifted(loki: Server, service: str, age_s: float) -> None:
    """Otherwise, a server whose last line is 40 minutes old would count as fresh."""
    age = backends.logs(f"http://127.0.0.1:{loki.address[1]}", service)
    assert age == pytest.approx(age_s, abs=300)
