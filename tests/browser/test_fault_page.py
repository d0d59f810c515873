"""The fault page: an enabled fault has its effect, and the page shows when a fault ends."""

import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import APIResponse, Locator, Page, Route, expect

from common.faults import ALL_FAULTS
from tests.browser.conftest import Suite, WatchedPage, check_readable, restart
from tests.failure.fault_page import fault_page
from tests.integration.conftest import STOP_S, Service
from tests.integration.service_support import JSON, ask
from tools.query import send


@pytest.fixture
def page(suite: Suite, requester: Service, watched: WatchedPage, tmp_path: Path) -> Iterator[Page]:
    """The open page with all faults; the faults are reset at the end."""
    services = {
        "server": suite.server,
        "requester": requester,
        "recorder": suite.recorder,
        "frontend": suite.frontend,
    }
    urls = {f"WORKSHOP_{name.upper()}": service.base_url for name, service in services.items()}
    with fault_page(tmp_path, **urls) as url:
        watched.page.goto(url)
        expect(watched.page.get_by_role("switch").nth(20)).to_be_visible()
        yield watched.page
        watched.page.goto("about:blank")  # otherwise the page would poll a stopped server
    for service in services.values():
        send(f"{service.base_url}/faults", method="DELETE")


def row(page: Page, name: str) -> Locator:
    """Return the page's row of a fault."""
    return page.get_by_role("listitem").filter(has=page.get_by_text(name, exact=True))


def post_status(suite: Suite) -> int:
    """Add a new name at the server and return the status of the response."""
    return ask(
        suite.server.base_url, "/unicorn", "POST", body=f'{{"name": "{secrets.token_hex(8)}"}}', headers=JSON
    ).status


def test_each_fault_of_each_service_has_a_switch(page: Page) -> None:
    """Those of the frontend included."""
    expect(page.get_by_role("switch")).to_have_count(len(ALL_FAULTS))


def test_a_fault_has_its_effect_while_it_is_enabled(suite: Suite, page: Page) -> None:
    """While it is enabled, each POST fails and the page shows the remaining time; after disabling it, none fails."""
    fault = row(page, "null_name")
    assert post_status(suite) == 201
    fault.get_by_role("switch").check()
    expect(fault.get_by_role("status")).to_have_text(re.compile(r"^1, \d+ s$"))
    assert post_status(suite) == 500
    fault.get_by_role("switch").uncheck()
    expect(fault.get_by_role("status")).to_have_text("0")
    assert post_status(suite) == 201


def test_a_late_answer_does_not_undo_a_change(page: Page) -> None:
    """A refresh from before a change is ignored when its answer arrives after it."""
    held: list[tuple[Route, APIResponse]] = []

    def hold(route: Route) -> None:
        if held:
            route.continue_()
        else:
            held.append((route, route.fetch()))

    switch = row(page, "null_name").get_by_role("switch")
    page.route("**/api/faults", hold)
    while not held:
        page.wait_for_timeout(50)
    switch.check()
    expect(row(page, "null_name").get_by_role("status")).to_have_text(re.compile(r"^1, \d+ s$"))
    with page.expect_response("**/api/faults"):
        held[0][0].fulfill(response=held[0][1])
    page.evaluate("() => new Promise(requestAnimationFrame)")
    assert switch.is_checked()
    page.unroute("**/api/faults")


def test_the_page_shows_the_end_of_a_fault(suite: Suite, page: Page) -> None:
    """Another client sets a duration, as a scenario does: the page shows the end without a click."""
    fault = row(page, "null_name")
    fault.get_by_role("switch").check()
    expect(fault.get_by_role("status")).to_have_text(
        re.compile(r"^1, \d+ s$")
    )  # the server has received the page's request
    send(f"{suite.server.base_url}/faults/null_name", method="PUT", body={"strength": 1, "seconds": 1})
    expect(fault.get_by_role("switch")).not_to_be_checked()
    assert post_status(suite) == 201


def test_the_keyboard_sets_and_resets_faults(page: Page) -> None:
    """Space toggles a switch, End moves a slider to its maximum, and Enter on the button resets both."""
    flood, query = row(page, "log_flood"), row(page, "slow_query")
    flood.get_by_role("switch").press("Space")
    expect(flood.get_by_role("status")).to_have_text(re.compile(r"^1, \d+ s$"))
    query.get_by_role("slider", name="intensity of slow_query").press("End")
    expect(query.get_by_role("status")).to_have_text(re.compile(r"^5, \d+ s$"))
    check_readable(page, "faults")
    page.get_by_role("button", name="Reset all").press("Enter")
    for fault in (flood, query):
        expect(fault.get_by_role("status")).to_have_text("0")


def test_the_page_recovers_from_a_restart_of_a_service(suite: Suite, watched: WatchedPage, page: Page) -> None:
    """The page reports the service that does not answer, and shows its faults again after its restart."""
    recorder = suite.recorder
    message = page.locator("#message")
    try:
        assert recorder.process.stop(STOP_S) == 0
        expect(message).to_contain_text("the recorder does not answer")
    finally:
        restart(recorder.process, f"{recorder.base_url}/readyz")
    expect(message).to_have_text("")
    watched.expect_faults("502")
