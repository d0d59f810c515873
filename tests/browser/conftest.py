"""The suite as processes, and Chromium, which opens its pages as a person would."""

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response, expect, sync_playwright

from local.ports import free_port
from local.processes.process import Process
from local.servers.postgres import Postgres
from local.servers.rabbitmq import RabbitMQ
from local.state import CHECKOUT
from tests.integration.conftest import DEADLINE_S, STOP_S, Gateway, Service, postgres, rabbitmq, servers_folder
from tests.integration.service_support import broker_settings, database_settings, fleet, requests_to
from tools.query import is_up

__all__ = ["postgres", "rabbitmq", "servers_folder"]

AXE = CHECKOUT / "tests/browser/node_modules/axe-core/axe.min.js"
PICTURES = CHECKOUT / "var/browser"
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
FOUND_BY_AXE = """async () => {
  const { violations } = await axe.run(document, { resultTypes: ["violations"] });
  return violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.target} ${node.failureSummary}`));
}"""


@dataclass(frozen=True)
class Suite:
    """The gateway and the three services, which send it all signals."""

    gateway: Gateway
    server: Service
    requester: Service
    recorder: Service


def restart(process: Process, url: str) -> None:
    """Start a process again, on the same ports, and return once `url` answers."""
    process.launch()
    process.wait_ready(lambda: is_up(url), DEADLINE_S)


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres, rabbitmq: RabbitMQ) -> Iterator[Suite]:
    """Return the running suite; a test that stops a part of it starts that part again.

    The ports are fixed, so that a part that starts again has the same ones.
    """
    folder = tmp_path_factory.mktemp("suite")
    ports = {name: free_port() for name in ("otlp_grpc", "otlp_http", "loki", "pyroscope", "page")}
    gateway = Gateway(module_process("local.gateway", folder, gateway_arguments(ports), {}), ports)
    settings = {
        **gateway.settings,
        **database_settings(postgres),
        **broker_settings(rabbitmq),
        "FAULT_NULL_NAME": "0",
        "FAULT_REQUEST_WAVES": "0",
    }
    restart(gateway.process, f"{gateway.page}/-/ready")
    with fleet(folder, settings) as services:
        server = services.launch("server")
        requester = services.launch("requester", **requests_to(server), REQUESTER_START="0")
        recorder = services.launch("recorder")
        services.ready()
        yield Suite(gateway, server, requester, recorder)
    assert gateway.process.stop(STOP_S) == 0, gateway.process.tail(30)


def gateway_arguments(ports: dict[str, int]) -> list[str]:
    """Return the command line that makes the gateway listen on these ports."""
    return [part for name, port in ports.items() for part in (f"--{name.replace('_', '-')}", str(port))]


def module_process(module: str, folder: Path, arguments: list[str], settings: dict[str, str]) -> Process:
    """Return a process, not yet started, that runs `python -m module` and logs to the folder."""
    return Process(
        module,
        [sys.executable, "-m", module, *arguments],
        log=folder / f"{module}.log",
        record=folder / f"{module}.pid",
        mark=module,
        environ=os.environ | settings,
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return a running Chromium.

    One per file and not per session: Playwright runs an event loop in this thread, which other tests could not use.
    """
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if not program or not AXE.exists():
        pytest.skip("Chromium or axe-core is not installed; scripts/setup browser installs them")
    expect.set_options(timeout=DEADLINE_S * 1000)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=program,
            args=FLAGS,
            chromium_sandbox=os.geteuid() != 0,  # which root cannot have
        )
        yield running
        running.close()


class Watched:
    """A page in the browser, and what went wrong in it: errors, lines on the console, requests that failed."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self._faults: list[str] = []
        page.on("pageerror", lambda error: self._faults.append(f"error: {error}"))
        page.on("console", self._read_console)
        page.on("requestfailed", self._note_failure)
        page.on("response", self._note_status)

    def _read_console(self, line: ConsoleMessage) -> None:
        if line.type in ("error", "warning"):
            self._faults.append(f"console: {line.text} {line.location}")

    def _note_failure(self, request: Request) -> None:
        self._faults.append(f"no response: {request.method} {request.url} {request.failure}")

    def _note_status(self, response: Response) -> None:
        if response.status >= 400:
            self._faults.append(f"{response.status}: {response.request.method} {response.url}")

    @property
    def faults(self) -> list[str]:
        """What went wrong up to now."""
        self.page.evaluate("0")  # returns after all earlier events
        return self._faults

    def forgive(self, pattern: str) -> None:
        """Forget the faults that the test caused. Fail the test if there is none, or one that does not match."""
        assert self.faults
        assert [fault for fault in self.faults if not re.search(pattern, fault)] == []
        self.faults.clear()


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    """Return a new page with its own cookies and cache; the test fails if anything went wrong in it."""
    context = browser.new_context(viewport={"width": WIDE[0], "height": WIDE[1]})
    context.set_default_timeout(DEADLINE_S * 1000)
    watched = Watched(context.new_page())
    yield watched
    faults = watched.faults
    context.close()
    assert faults == []


def check_readable(page: Page, name: str, drawn: Callable[[], None] = lambda: None) -> None:
    """Fail the test if axe-core finds a fault, such as low contrast or a missing label, or if a phone has to scroll.

    The page is checked wide and light, and narrow and dark. `drawn` returns once the page has been drawn again for a
    new width. Pictures for people are written to var/browser.
    """
    PICTURES.mkdir(parents=True, exist_ok=True)
    found: list[str] = []
    if not page.evaluate("'axe' in window"):
        page.evaluate(
            AXE.read_text(encoding="utf-8")
        )  # not as a script element, which the policies of the pages reject
    for (width, height), scheme in ((NARROW, "dark"), (WIDE, "light")):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        page.set_viewport_size({"width": width, "height": height})
        drawn()
        page.screenshot(path=PICTURES / f"{name}-{scheme}.png", full_page=True)
        found += page.evaluate(FOUND_BY_AXE)
        if page.evaluate("document.documentElement.scrollWidth") > width:
            found.append(f"scrolls at {width} px")
    assert found == []
