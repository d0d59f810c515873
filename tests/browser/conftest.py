"""The suite as processes, and Chromium, which opens its pages like a user."""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response, expect, sync_playwright

from local.ports import LOOPBACK, free_port
from local.processes.process import Process
from local.servers.postgres import Postgres
from local.servers.rabbitmq import RabbitMQ
from local.state import CHECKOUT
from tests.integration.conftest import (
    DEADLINE_S,
    STOP_S,
    Gateway,
    Service,
    module_process,
    postgres,
    rabbitmq,
    servers_folder,
)
from tests.integration.service_support import Fleet, broker_settings, database_settings, fleet, requests_to
from tools.query import is_up

__all__ = ["postgres", "rabbitmq", "servers_folder"]

AXE = CHECKOUT / "tests/browser/node_modules/axe-core/axe.min.js"
SCREENSHOTS = CHECKOUT / "var/browser"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
# Without these flags, Chromium sends requests to its vendor.
FLAGS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
]
WIDE, NARROW = (1280, 800), (360, 740)
RUN_AXE = """async () => {
  const { violations } = await axe.run(document, { resultTypes: ["violations"] });
  return violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.target} ${node.failureSummary}`));
}"""


@dataclass(frozen=True)
class Suite:
    """The gateway, and the services that send it all signals."""

    gateway: Gateway
    services: Fleet
    server: Service
    recorder: Service
    frontend: Service


def restart(process: Process, url: str) -> None:
    """Start a process on its ports, and wait until `url` answers."""
    process.launch()
    process.wait_ready(lambda: is_up(url), DEADLINE_S)


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres, rabbitmq: RabbitMQ) -> Iterator[Suite]:
    """The running suite; a test that stops a part of it must restart that part.

    The ports are fixed, so that a restarted part has the same ones.
    """
    folder = tmp_path_factory.mktemp("suite")
    page_port = free_port()
    ports = {name: free_port() for name in ("otlp_grpc", "otlp_http", "loki", "pyroscope", "faro", "page")}
    arguments = [part for name, port in ports.items() for part in (f"--{name.replace('_', '-')}", str(port))]
    arguments += ["--faro-origins", f"http://{LOOPBACK}:{page_port}"]
    gateway = Gateway(module_process("gateway", "local.gateway", folder, arguments, {}), ports)
    settings = {
        **gateway.settings,
        **database_settings(postgres),
        **broker_settings(rabbitmq),
        "FAULT_NULL_NAME": "0",
        "FAULT_REQUEST_WAVES": "0",
        "FARO_URL": f"http://{LOOPBACK}:{ports['faro']}/collect",
    }
    restart(gateway.process, f"{gateway.page}/-/ready")
    with fleet(folder, settings) as services:
        server, recorder = services.launch("server"), services.launch("recorder")
        frontend = services.launch("frontend", **requests_to(server), HTTP_PORT=str(page_port))
        services.ready()
        yield Suite(gateway, services, server, recorder, frontend)
    assert gateway.process.stop(STOP_S) == 0, gateway.process.tail(30)


@pytest.fixture(scope="module")
def requester(suite: Suite) -> Iterator[Service]:
    """A requester that runs during the tests of a file."""
    requester = suite.services.start("requester", **requests_to(suite.server), REQUESTER_START="0")
    yield requester
    assert requester.stop() == 0, requester.process.tail(30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A running Chromium.

    It is per file and not per session, because Playwright runs an event loop in this thread, which blocks other tests.
    """
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if not program or not AXE.exists():
        pytest.skip("Chromium or axe-core is not installed; scripts/setup browser installs them")
    expect.set_options(timeout=DEADLINE_S * 1000)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=program,
            args=FLAGS,
            chromium_sandbox=os.geteuid() != 0,  # not available to root
        )
        yield running
        running.close()


class WatchedPage:
    """A page in the browser, and its faults: errors, console errors and warnings, failed requests."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self._faults: list[str] = []
        page.on("pageerror", lambda error: self._faults.append(f"error: {error}"))
        page.on("console", self._read_console)
        page.on("requestfailed", self._record_failure)
        page.on("response", self._record_status)

    def _read_console(self, line: ConsoleMessage) -> None:
        # Faro logs this for a second click during the requests of the first one; it counts only the first.
        quick = "Attempted to create a new user action while one is already running" in line.text
        if line.type in ("error", "warning") and not quick:
            self._faults.append(f"console: {line.text} {line.location}")

    def _record_failure(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # the next load of the page ends open requests
            self._faults.append(f"no response: {request.method} {request.url} {request.failure}")

    def _record_status(self, response: Response) -> None:
        if response.status >= 400:
            self._faults.append(f"{response.status}: {response.request.method} {response.url}")

    @property
    def faults(self) -> list[str]:
        """The faults so far."""
        self.page.evaluate("0")  # returns after all earlier events
        return self._faults

    def expect_faults(self, pattern: str) -> None:
        """Clear the faults that the test caused. Fail the test if there is none, or one that does not match."""
        assert self.faults
        assert [fault for fault in self.faults if not re.search(pattern, fault)] == []
        self.faults.clear()


@pytest.fixture
def watched(browser: Browser) -> Iterator[WatchedPage]:
    """A new page with its own cookies and cache; the test fails if the page has a fault."""
    context = browser.new_context(viewport={"width": WIDE[0], "height": WIDE[1]})
    context.set_default_timeout(DEADLINE_S * 1000)
    watched = WatchedPage(context.new_page())
    yield watched
    faults = watched.faults
    context.close()
    assert faults == []


def check_readable(page: Page, name: str) -> None:
    """Fail the test if axe-core finds a fault, such as low contrast or a missing label, or if a phone has to scroll.

    The page is checked wide and light, and narrow and dark. Screenshots are written to var/browser.
    """
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    found: list[str] = []
    if not page.evaluate("'axe' in window"):
        # Not as a script element, because the policies of the pages reject it.
        page.evaluate(AXE.read_text(encoding="utf-8"))
    for (width, height), scheme in ((NARROW, "dark"), (WIDE, "light")):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        page.set_viewport_size({"width": width, "height": height})
        page.screenshot(path=SCREENSHOTS / f"{name}-{scheme}.png", full_page=True)
        found += page.evaluate(RUN_AXE)
        if page.evaluate("document.documentElement.scrollWidth") > width:
            found.append(f"scrolls at {width} px")
    assert found == []
