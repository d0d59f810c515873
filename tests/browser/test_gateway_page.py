"""The gateway's page: each panel shows the suite's data, also after a restart of the gateway."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Suite, WatchedPage, check_readable, restart
from tests.integration.conftest import STOP_S, eventually

pytestmark = pytest.mark.usefixtures("requester")

SERVICES = ("mythical-requester", "mythical-server", "mythical-recorder")

# The name of the widest frame that is narrower than the root, and that no other frame has.
WIDEST_FRAME = """() => {
  const frames = [...document.querySelectorAll("#flame g.frame")].map((frame) => ({
    name: frame.querySelector("title").textContent.replace(/: [^:]*$/, ""),
    width: Number(frame.querySelector("rect").getAttribute("width")),
  }));
  const most = Math.max(...frames.map(({ width }) => width));
  const once = ({ name }) => frames.filter((other) => other.name === name).length === 1;
  return frames.filter(once).filter(({ width }) => width < 0.9 * most).sort((a, b) => b.width - a.width)[0]?.name;
}"""

# In one step, because a refresh could replace the row between two steps.
FOCUS_TRACE = """() => [...document.querySelectorAll("#traces tbody tr")]
  .find((row) => row.textContent.includes("recorder")).querySelector("a").focus()"""


def open_page(watched: WatchedPage, suite: Suite, path: str = "/") -> Page:
    """Open the page, and return it once it has received data."""
    watched.page.goto(f"{suite.gateway.page}{path}")
    expect(watched.page.get_by_role("status")).to_have_text("live")
    return watched.page


def expect_panels(page: Page) -> None:
    """Wait until all panels show data of the three services."""
    for service in SERVICES:
        row = page.locator("#cells tbody tr").filter(has=page.get_by_role("rowheader", name=service))
        expect(row.locator("td.fresh")).to_have_count(4)
    hops = page.get_by_role("list", name="calls between services").get_by_role("listitem")
    for hop in (
        "mythical-requester calls mythical-server",
        "mythical-server queries postgresql",
        "mythical-requester publishes to rabbitmq",
        "rabbitmq delivers to mythical-recorder",
    ):
        expect(hops.filter(has_text=hop)).to_have_count(1)
    expect(page.locator("#map canvas").first).to_be_visible()
    expect(page.locator("#traces tbody tr").nth(5)).to_be_visible()
    for service in SERVICES:
        expect(page.locator("#flame-service option").filter(has_text=service)).to_have_count(1)
    expect(page.locator("#flame rect").nth(5)).to_be_visible()


def test_each_panel_shows_data(suite: Suite, watched: WatchedPage) -> None:
    """Each panel shows data without a click: all signals of each service, calls, newest traces, a flame graph."""
    page = open_page(watched, suite)
    expect_panels(page)
    check_readable(page, "gateway")


def test_a_trace_opens_with_its_spans_and_logs(suite: Suite, watched: WatchedPage) -> None:
    """The keyboard opens the spans of each service, the attributes of one, the logs, and the list again."""
    page = open_page(watched, suite)
    expect(page.locator("#traces tbody tr").filter(has_text="recorder").first).to_be_visible()
    page.evaluate(FOCUS_TRACE)
    link = page.locator("#traces a:focus")
    with page.expect_response("**/api/traces?*"):
        pass  # wait for a refresh, which must not replace the link
    expect(link).to_have_count(1)
    page.keyboard.press("Enter")
    spans = page.get_by_role("region", name="spans")
    for service in SERVICES:
        expect(spans.get_by_text(service).first).to_be_visible()
    consumer = spans.get_by_role("listitem").filter(has_text="process_message")
    expect(consumer.get_by_text("messaging.destination.name")).to_be_hidden()
    consumer.locator("summary").press("Enter")
    expect(consumer.get_by_text("messaging.destination.name")).to_be_visible()
    logs = page.get_by_role("region", name="Logs of this trace").locator("tbody tr")
    for service in SERVICES:
        expect(logs.filter(has_text=service).first).to_be_visible()
    times = logs.locator("td:first-child").all_inner_texts()
    assert times == sorted(times)
    check_readable(page, "gateway-trace")
    page.get_by_role("link", name="all traces").press("Enter")
    expect(page.get_by_role("heading", name="Latest traces")).to_be_visible()


def test_the_flame_graph_zooms(suite: Suite, watched: WatchedPage) -> None:
    """A click expands a frame to the whole width; a click on the root shows the whole graph again."""
    page = open_page(watched, suite)
    frames = page.locator("#flame g.frame")
    name = eventually(lambda: page.evaluate(WIDEST_FRAME), what="a frame that is narrower than the root")
    frame = frames.filter(has=page.locator("title", has_text=re.compile(f"^{re.escape(name)}: ")))
    # The library computes 558.9999999999999 for some frames of 559 pixels.
    whole = pytest.approx(float(page.locator("#flame svg").get_attribute("width") or 0))

    def width() -> float:
        return float(frame.locator("rect").get_attribute("width") or 0)

    frame.click()
    eventually(lambda: width() == whole, what="a frame as wide as the graph")
    expect(page.locator("#flame-details")).to_contain_text(name)
    frames.filter(has=page.locator("title", has_text=re.compile("^root: "))).click()
    eventually(lambda: width() != whole, what="a frame narrower than the graph")


def test_the_page_recovers_from_a_restart_of_the_gateway(suite: Suite, watched: WatchedPage) -> None:
    """The page reports that the gateway is down; after the restart, it shows the new data in each panel."""
    page = open_page(watched, suite)
    expect_panels(page)
    gateway = suite.gateway.process
    try:
        assert gateway.stop(STOP_S) == 0
        expect(page.get_by_role("status")).to_have_text("the gateway does not answer")
        flame = page.locator("#flame-details").inner_text()
    finally:
        restart(gateway, f"{suite.gateway.page}/-/ready")
    expect(page.get_by_role("status")).to_have_text("live")
    expect(page.locator("#flame-details")).not_to_have_text(flame)
    expect_panels(page)
    watched.expect_faults("net::ERR_")
