"""The suite with Docker, asked at ports where somebody else answers."""

from collections.abc import Iterator

import pytest

from doctor.report import MISSING
from doctor.signal_paths import PATHS
from doctor.suite_docker import SuiteWithDocker
from tests.unit.services.http_server import Server
from tools.suite import SERVICES


@pytest.fixture
def stranger() -> Iterator[Server]:
    """A program that answers everybody, and knows nothing of signals."""
    server = Server()
    yield server
    server.close()


@pytest.mark.parametrize("body", [b"[1]", b"{}", b'{"data": {"result": [1]}, "traces": [1], "series": [1]}', b"hello"])
def test_what_a_stranger_says_is_no_signal(stranger: Server, body: bytes) -> None:
    """Each signal is missing, for a reason; no stack trace, whatever the JSON is."""
    stranger.body = body
    port = str(stranger.address[1])
    names = (
        *(service.port_variable for service in SERVICES),
        *(path.port_variable for path in PATHS.values()),
        "ALLOY_PAGES_PORT",
    )
    report = SuiteWithDocker(dict.fromkeys(names, port), {}).report()
    assert {cell.state for cell in report.cells} == {MISSING}
    assert all(cell.fault and cell.fault.remedy for cell in report.cells)
    assert report.status == 1
