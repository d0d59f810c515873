"""The doctor handles responses of unrelated programs on the ports of the suite."""

from collections.abc import Iterator

import pytest

from doctor.report import IDLE, MISSING, Report
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


def examined(server: Server) -> Report:
    """Return the report on a suite in which one server answers on all ports."""
    names = (
        *(service.port_variable for service in SERVICES),
        *(path.port_variable for path in PATHS.values()),
        "ALLOY_PAGES_PORT",
    )
    return SuiteWithDocker(dict.fromkeys(names, str(server.address[1])), {}).report()


@pytest.mark.parametrize("body", [b"[1]", b"{}", b'{"data": {"result": [1]}, "traces": [1], "series": [1]}', b"hello"])
def test_a_response_of_an_unrelated_program_is_not_a_signal(unrelated: Server, body: bytes) -> None:
    """Each signal is missing with a reason, and no JSON causes a stack trace."""
    unrelated.body = body
    report = examined(unrelated)
    assert {cell.state for cell in report.cells} == {MISSING}
    assert all(cell.fault and cell.fault.remedy for cell in report.cells)
    assert report.status == 1


def test_a_frontend_without_page_views_is_idle(unrelated: Server) -> None:
    """It has no requests, and so no spans, lines, or profiles; but its metrics must arrive, and those of the others."""
    unrelated.body = b"[]"  # an Alloy without unhealthy components, and services that are ready
    states = {(cell.service, cell.signal): cell.state for cell in examined(unrelated).cells}
    idle = {("mythical-frontend", signal) for signal in PATHS if signal != "metrics"}
    assert {cell for cell, state in states.items() if state == IDLE} == idle
    assert {state for cell, state in states.items() if cell not in idle} == {MISSING}
