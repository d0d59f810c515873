"""The fault page: a fault that is switched on strikes, and one that ends does so on the page as well."""

import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from common.faults import ALL_FAULTS
from tests.browser.conftest import Suite, Watched, check_readable, restart
from tests.failure.switch_page import switch_page
from tests.integration.conftest import STOP_S, Service
from tests.integration.service_support import JSON, ask
from tools.query import send


@pytest.fixture
def page(suite: Suite, requester: Service, watched: Watched, tmp_path: Path) -> Iterator[Page]:
    """Return the open page with all faults; the faults are reset at the end."""
    services = {
        "server": suite.server,
        "requester": requester,
        "recorder": suite.recorder,
        "frontend": suite.frontend,
    }
    addresses = {f"WORKSHOP_{name.upper()}": service.base_url for name, service in services.items()}
    with switch_page(tmp_path, **addresses) as url:
        watched.page.goto(url)
        expect(watched.page.get_by_role("switch").nth(20)).to_be_visible()
        yield watched.page
        watched.page.goto("about:blank")  # else the page would ask a server that has ended
    for service in services.values():
        send(f"{service.base_url}/faults", method="DELETE")


def row(page: Page, name: str) -> Locator:
    """Return what the page shows of one fault."""
    return page.get_by_role("listitem").filter(has=page.get_by_text(name, exact=True))


def status_of_a_post(suite: Suite) -> int:
    """Add a new name at the server and return the status of the response."""
    return ask(
        suite.server.base_url, "/unicorn", "POST", body=f'{{"name": "{secrets.token_hex(8)}"}}', headers=JSON
    ).status


def test_each_fault_of_each_service_has_a_switch(page: Page) -> None:
    """Those of the frontend included."""
    expect(page.get_by_role("switch")).to_have_count(len(ALL_FAULTS))


def test_a_fault_strikes_while_it_is_switched_on(suite: Suite, page: Page) -> None:
    """After the switch, each POST fails and the page shows how long that lasts; after the next one, none does."""
    fault = row(page, "null_name")
    assert status_of_a_post(suite) == 201
    fault.get_by_role("switch").check()
    expect(fault.get_by_role("status")).to_have_text(re.compile(r"^1, \d+ s$"))
    assert status_of_a_post(suite) == 500
    fault.get_by_role("switch").uncheck()
    expect(fault.get_by_role("status")).to_have_text("0")
    assert status_of_a_post(suite) == 201


def test_a_fault_that_ends_by_itself_is_off_on_the_page(suite: Suite, page: Page) -> None:
    """Another client sets the end, as a scenario does: the page shows it without a click."""
    fault = row(page, "null_name")
    fault.get_by_role("switch").check()
    expect(fault.get_by_role("status")).to_have_text(re.compile(r"^1, \d+ s$"))  # the server has the page's request
    send(f"{suite.server.base_url}/faults/null_name", method="PUT", body={"strength": 1, "seconds": 1})
    expect(fault.get_by_role("switch")).not_to_be_checked()
    assert status_of_a_post(suite) == 201


def test_the_keyboard_sets_and_resets_faults(page: Page) -> None:
    """Space turns a switch, End moves a slider to its maximum, and Enter on the button resets both."""
    flood, query = row(page, "log_flood"), row(page, "slow_query")
    flood.get_by_role("switch").press("Space")
    expect(flood.get_by_role("status")).to_have_text(re.compile(r"^1, \d+ s$"))
    query.get_by_role("slider", name="intensity of slow_query").press("End")
    expect(query.get_by_role("status")).to_have_text(re.compile(r"^5, \d+ s$"))
    check_readable(page, "faults")
    page.get_by_role("button", name="Reset all").press("Enter")
    for fault in (flood, query):
        expect(fault.get_by_role("status")).to_have_text("0")


def test_the_page_recovers_when_a_service_starts_again(suite: Suite, watched: Watched, page: Page) -> None:
    """The page names the service that does not answer, and shows its faults again after its restart."""
    recorder = suite.recorder
    message = page.locator("#message")
    try:
        assert recorder.process.stop(STOP_S) == 0
        expect(message).to_contain_text("the recorder does not answer")
    finally:
        restart(recorder.process, f"{recorder.base_url}/readyz")
    expect(message).to_have_text("")
    watched.forgive("502")
