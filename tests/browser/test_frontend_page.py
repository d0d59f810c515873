"""The frontend's page: its functions, its behaviour in outages, and the browser's telemetry."""

import json
import secrets
from typing import Any

import pytest
from playwright.sync_api import Browser, Dialog, Locator, Page, Route, expect

from local.servers.postgres import Postgres
from tests.browser.conftest import SCREENSHOTS, Suite, WatchedPage, check_readable, restart
from tests.integration.conftest import STOP_S, eventually
from tests.integration.service_support import JSON, ask, run, spans_of
from tools.query import send

KIND = "owlbear"
MAX_LOAD_BYTES = 150_000
IN_FLIGHT = 5  # payloads that Faro sends at a time; another 25 wait
LOADS = 5
# Bytes transferred, without the telemetry sent, and the largest contentful paint. Source: W3C, "Resource Timing" and
# "Largest Contentful Paint".
FIRST_LOAD = """async () => {
  const entries = [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")];
  const received = entries.filter(({ name }) => new URL(name).origin === location.origin);
  const type = "largest-contentful-paint";
  const paints = await new Promise((resolve) => {
    new PerformanceObserver((list) => resolve(list.getEntries())).observe({ type, buffered: true });
  });
  return [received.reduce((sum, { transferSize }) => sum + transferSize, 0), paints.at(-1).startTime];
}"""


def new_name() -> str:
    """Return a name that no other test uses."""
    return f"browser_{secrets.token_hex(4)}"


@pytest.fixture
def page(suite: Suite, watched: WatchedPage, postgres: Postgres) -> Page:
    """The open page of a kind without names."""
    run(postgres, f"TRUNCATE {KIND}")
    watched.page.goto(f"{suite.frontend.base_url}/#{KIND}")
    expect(watched.page.get_by_text("No names yet.")).to_be_visible()
    return watched.page


def add(page: Page, name: str) -> None:
    """Add a name, and wait until the button is enabled again."""
    page.get_by_label("New name").fill(name)
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("button", name="Add", exact=True)).to_be_enabled()


def names(page: Page) -> Locator:
    """Return the names on the page."""
    return page.get_by_role("list", name=f"Names of {KIND}").locator("li span")


def message(page: Page) -> Locator:
    """Return the page's status line."""
    return page.get_by_role("status")


def test_names_are_added_listed_and_removed(suite: Suite, page: Page) -> None:
    """Each kind has its own names; Refresh shows names that other clients added."""
    first, second = new_name(), new_name()
    add(page, first)
    expect(message(page)).to_have_text(f"Added {first}.")
    expect(names(page)).to_have_text([first])
    ask(suite.server.base_url, f"/{KIND}", "POST", body=json.dumps({"name": second}), headers=JSON)
    page.get_by_role("button", name="Refresh").click()
    expect(names(page)).to_have_text([second, first])
    page.get_by_role("link", name="unicorn").click()
    expect(page.get_by_role("heading", name="Names of unicorn")).to_be_visible()
    page.get_by_role("link", name=KIND).click()
    page.get_by_role("button", name=f"Remove {first}").click()
    expect(message(page)).to_have_text(f"Removed {first}.")
    expect(names(page)).to_have_text([second])


def test_each_rejection_is_shown_with_its_reason(suite: Suite, watched: WatchedPage, page: Page) -> None:
    """The name stays in the field, so that it can be corrected."""
    name = new_name()
    add(page, name)
    rejected = {
        name: "The name already exists. Choose another one.",
        " ": 'The body has no usable name. Send {"name": "..."}.',
        "n" * 51: "The name is longer than 50 characters.",
        "a\tb": "The name contains control characters or line breaks.",
    }
    for wrong, reason in rejected.items():
        add(page, wrong)
        expect(message(page)).to_have_text(reason)
        expect(page.get_by_label("New name")).to_have_value(wrong)
    send(f"{suite.server.base_url}/faults/null_name", method="PUT", body={"strength": 1})
    try:
        add(page, new_name())
        expect(message(page)).to_have_text("Could not store the name.")
    finally:
        send(f"{suite.server.base_url}/faults", method="DELETE")
    check_readable(page, "frontend-rejected")
    expect(names(page)).to_have_text([name])
    watched.expect_faults(r"\b(400|409|500)\b")


def test_an_empty_name_is_not_sent(page: Page) -> None:
    """The browser's own validation rejects it."""
    add(page, "")
    assert page.get_by_label("New name").evaluate("field => field.validity.valueMissing")
    expect(message(page)).to_have_text("")


def test_the_page_recovers_from_a_restart_of_the_server(suite: Suite, watched: WatchedPage, page: Page) -> None:
    """While the server is down, the page reports it and retries by itself."""
    name = new_name()
    add(page, name)
    server = suite.server
    try:
        assert server.process.stop(STOP_S) == 0
        add(page, new_name())
        expect(message(page)).to_have_text("The server cannot be reached. Try again in a moment.")
    finally:
        restart(server.process, f"{server.base_url}/readyz")
    expect(message(page)).to_have_text("The server is back.")
    expect(names(page)).to_have_text([name])
    watched.expect_faults(r"\b50[23]\b")


def test_the_page_recovers_when_the_network_is_back(watched: WatchedPage, page: Page) -> None:
    """An offline browser cannot reach the page's server."""
    add(page, name := new_name())
    page.context.set_offline(True)
    page.get_by_role("button", name="Refresh").click()
    expect(message(page)).to_have_text("The page's server cannot be reached. Check your connection.")
    page.context.set_offline(False)
    expect(message(page)).to_have_text("The server is back.")
    expect(names(page)).to_have_text([name])
    watched.expect_faults("net::ERR_INTERNET_DISCONNECTED|Failed sending payload")


def test_a_thousand_names_are_shown_page_by_page(page: Page, postgres: Postgres) -> None:
    """Each click appends the next names and moves the focus to the first of them, until all are shown."""
    rows = "SELECT 'name ' || number FROM generate_series(1, 1000) AS number"
    run(postgres, f"INSERT INTO {KIND} (name) {rows}")
    page.get_by_role("button", name="Refresh").click()
    more = page.get_by_role("button", name="Show more names")
    for shown in range(50, 1000, 50):
        expect(names(page)).to_have_count(shown)
        more.press("Enter")
        expect(page.get_by_role("button", name=f"Remove name {1000 - shown}", exact=True)).to_be_focused()
    more.press("Enter")  # this page of names is full, so it doesn't show that it is the last one
    expect(more).to_be_hidden()
    expect(page.get_by_role("button", name="Remove name 1", exact=True)).to_be_focused()
    assert names(page).all_inner_texts() == [f"name {number}" for number in range(1000, 0, -1)]


def test_the_longest_names_fit_a_phone(page: Page) -> None:
    """They have no space at which a line could break."""
    for name in ("W" * 50, "ü" * 50):
        add(page, name)
        expect(names(page).first).to_have_text(name)
    check_readable(page, "frontend")


def test_the_page_can_be_used_with_the_keyboard(page: Page) -> None:
    """Tab reaches each control in the order of the page; after a removal, the focus is on the next name."""

    def press(key: str, focused: Locator) -> None:
        page.keyboard.press(key)
        expect(focused).to_be_focused()

    field, button = page.get_by_label("New name"), page.get_by_role("button", name="Add", exact=True)
    refresh = page.get_by_role("button", name="Refresh")
    press("Tab", page.get_by_role("link", name="Skip to the names"))
    for link in page.get_by_role("navigation", name="Kinds").get_by_role("link").all():
        press("Tab", link)
    press("Tab", field)
    first, second = new_name(), new_name()
    for name in (first, second):
        page.keyboard.type(name)
        page.keyboard.press("Enter")
        expect(message(page)).to_have_text(f"Added {name}.")
        expect(field).to_be_focused()
        # While the names are listed again, Refresh is disabled, and Tab skips it.
        expect(names(page).first).to_have_text(name)
        expect(refresh).to_be_enabled()
    press("Tab", button)
    press("Tab", refresh)
    press("Tab", page.get_by_role("button", name=f"Remove {second}"))
    press("Enter", page.get_by_role("button", name=f"Remove {first}"))
    press("Enter", field)
    expect(page.get_by_text("No names yet.")).to_be_visible()


@pytest.mark.parametrize("markup", ["<img src=x onerror=alert(1)>", "<script>alert(1)</script>", "&lt;b&gt; {{7*7}}"])
def test_a_name_with_markup_is_text(page: Page, suite: Suite, markup: str) -> None:
    """The list, the message and the label of the button show it as text; no script runs, and no element appears."""
    dialogs: list[Dialog] = []

    def dismiss(dialog: Dialog) -> None:
        dialogs.append(dialog)
        dialog.dismiss()

    page.on("dialog", dismiss)
    add(page, markup)
    expect(message(page)).to_have_text(f"Added {markup}.")
    expect(names(page)).to_have_text([markup])
    assert page.locator("main :is(img, script, b)").count() == 0
    page.get_by_role("button", name=f"Remove {markup}").click()
    expect(message(page)).to_have_text(f"Removed {markup}.")
    page.goto(f"{suite.frontend.base_url}/#{markup}")
    expect(page.get_by_role("heading", name="Names of unicorn")).to_be_visible()
    assert dialogs == []


def test_a_click_is_one_trace_from_the_browser_to_the_recorder(suite: Suite, page: Page) -> None:
    """The trace has spans and log lines of each part, and a span of the SQL statement."""
    with page.expect_request(lambda request: request.method == "POST" and "/api/" in request.url) as sent:
        add(page, new_name())
    trace_id = sent.value.headers["traceparent"].split("-")[1]
    services = {"mythical-browser", "mythical-frontend", "mythical-server", "mythical-recorder"}

    def complete() -> list[dict[str, Any]]:
        spans = spans_of(suite.gateway, trace_id)
        return spans if services == {span["service"] for span in spans} else []

    spans = eventually(complete, what=f"trace {trace_id} of four services")
    ids = {span["span_id"] for span in spans}
    assert [span["service"] for span in spans if span["parent_span_id"] not in ids] == ["mythical-browser"]
    assert f"INSERT {KIND}" in [span["name"] for span in spans]

    def lines() -> bool:
        found = suite.gateway.get("logs", trace_id=trace_id)
        return services == {line["labels"]["service_name"] for line in found}

    eventually(lines, what=f"log lines of four services with trace {trace_id}")


def test_the_browser_sends_its_measurements(suite: Suite, watched: WatchedPage, page: Page) -> None:
    """Web vitals, loads, requests, clicks, rejections, and errors arrive with the session; no cookie is set."""
    add(page, name := new_name())
    add(page, name)  # is rejected
    page.evaluate("setTimeout(() => { throw new Error('unhandled in the test'); })")
    session = json.loads(page.evaluate("sessionStorage.getItem('com.grafana.faro.session')"))["sessionId"]
    expected = (
        "kind=event event_name=session_start",
        "kind=event event_name=faro.performance.navigation",
        "kind=event event_name=faro.tracing.fetch",
        "event_data_userActionName=add-name",
        "kind=measurement type=web-vitals value_ttfb=",
        "kind=measurement type=web-vitals value_fcp=",
        "kind=measurement type=web-vitals value_lcp=",
        'kind=exception type=Error value="The name already exists. Choose another one."',
        'kind=exception type=Error value="unhandled in the test"',
    )

    def missing() -> set[str]:
        lines = [line["line"] for line in suite.gateway.get("logs", service="mythical-browser", limit=1000)]
        of_session = [line for line in lines if f"session_id={session}" in line]
        return {part for part in expected if not any(part in line for line in of_session)}

    eventually(lambda: not missing(), what=f"all of the browser's lines; missing: {missing()}")
    assert page.context.cookies() == []
    watched.expect_faults("unhandled in the test|409")


def test_without_the_gateway_the_page_works(suite: Suite, watched: WatchedPage, page: Page) -> None:
    """The receiver of the browser's telemetry is down: names can still be listed, added and removed."""
    gateway = suite.gateway.process
    try:
        assert gateway.stop(STOP_S) == 0
        with page.expect_event("requestfailed"):
            add(page, name := new_name())
        expect(names(page)).to_have_text([name])
        page.get_by_role("button", name=f"Remove {name}").click()
        expect(page.get_by_text("No names yet.")).to_be_visible()
    finally:
        restart(gateway, f"{suite.gateway.page}/-/ready")
    watched.expect_faults(f":{suite.gateway.ports['faro']}/collect|net::ERR_CONNECTION_REFUSED|Failed sending payload")


def test_undelivered_telemetry_is_dropped(suite: Suite, watched: WatchedPage) -> None:
    """The receiver never responds: the page works, a few payloads wait, and further ones are dropped."""
    pending: list[Route] = []

    def hold(route: Route) -> None:
        pending.append(route)

    page = watched.page
    page.clock.install()
    page.route("**/collect", hold)
    page.goto(f"{suite.frontend.base_url}/#{KIND}")
    refresh = page.get_by_role("button", name="Refresh")
    while not any("Task buffer full" in fault for fault in watched.faults):
        with page.expect_response("**/api/**"):
            refresh.click()
        page.clock.run_for(2000)
    assert len(pending) == IN_FLIGHT
    add(page, name := new_name())
    expect(names(page).first).to_have_text(name)
    page.route("**/collect", lambda route: route.fulfill(status=202))
    with page.expect_request("**/collect"):  # the next payload is sent when one is answered
        for route in pending:
            route.fulfill(status=202)
    watched.expect_faults("Task buffer full")


def first_load(browser: Browser, url: str, *, faro: bool) -> tuple[int, float]:
    """Load the page with an empty cache; return the bytes transferred and the largest contentful paint in ms."""
    context = browser.new_context()
    page = context.new_page()
    if not faro:
        page.route("**/faro-*", lambda route: route.abort())
    page.goto(url)
    expect(page.get_by_role("button", name="Refresh")).to_be_enabled()
    transferred, paint = page.evaluate(FIRST_LOAD)
    context.close()
    return transferred, paint


def test_the_first_load_is_small(suite: Suite, browser: Browser) -> None:
    """Without Faro, less than 150 kB are transferred. The results are written to var/browser/first-load.json.

    They are copied to docs/benchmarks.md; no assertion depends on a duration.
    """
    results = {}
    for faro in (False, True):
        loads = [first_load(browser, suite.frontend.base_url, faro=faro) for _ in range(LOADS)]
        transferred, paints = zip(*loads, strict=True)
        results["with Faro" if faro else "without Faro"] = {"bytes": transferred[0], "fastest_paint_ms": min(paints)}
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    (SCREENSHOTS / "first-load.json").write_text(json.dumps(results, indent=2), encoding="utf-8")
    assert 0 < results["without Faro"]["bytes"] < MAX_LOAD_BYTES
    assert results["with Faro"]["bytes"] > results["without Faro"]["bytes"]
