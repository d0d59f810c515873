"""The doctor handles responses of unrelated programs on the ports of the suite."""

from collections.abc import Iterator

import pytest

from doctor.report import MISSING
from doctor.signal_paths import PATHS
from doctor.suite_docker import SuiteWithDocker
from tests.unit.services.http_server import Server
from tools.suite import SERVICES


@pytest.fixture
def unrelated() -> Iterator[Server]:
    """Start a program that responds to every request and has no telemetry."""
    server = Server()
    yield server
    server.close()


@pytest.mark.parametrize("body", [b"[1]", b"{}", b'{"data": {"result": [1]}, "traces": [1], "series": [1]}', b"hello"])
def test_a_response_of_an_unrelated_program_is_not_a_signal(unrelated: Server, body: bytes) -> None:
    """Each signal is missing with a reason, and no JSON causes a stack trace."""
    unrelated.body = body
    port = str(unrelated.address[1])
    names = (
        *(service.port_variable for service in SERVICES),
        *(path.port_variable for path in PATHS.values()),
        "ALLOY_PAGES_PORT",
    )
    report = SuiteWithDocker(dict.fromkeys(names, port), {}).report()
    assert {cell.state for cell in report.cells} == {MISSING}
    assert all(cell.fault and cell.fault.remedy for cell in report.cells)
    assert report.status == 1
