"""Locust's page: the running load can be stopped and restarted."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from local.ports import LOOPBACK, free_port
from local.processes.process import Process
from tests.browser.conftest import WatchedPage, restart
from tests.integration.conftest import STOP_S, eventually
from tests.integration.load_support import PYTHON, environment, needs_locust, stand_in

pytestmark = needs_locust


@pytest.fixture
def load(tmp_path: Path) -> Iterator[str]:
    """The URL of the page of a load with two users on a stand-in for the server."""
    port = free_port()
    with stand_in() as host:
        process = Process(
            "load",
            [str(PYTHON), "-m", "loadtest"],
            log=tmp_path / "load.log",
            record=tmp_path / "load.pid",
            mark="loadtest",
            environ=environment(tmp_path, LOAD_HOST=host, LOAD_HEADLESS="false", LOAD_PORT=str(port), LOAD_USERS="2"),
        )
        restart(process, f"http://{LOOPBACK}:{port}")
        yield f"http://{LOOPBACK}:{port}"
        process.stop(STOP_S)


def stop(page: Page) -> None:
    """Click Stop, and wait until the page shows that the load has stopped.

    Locust's page stops polling while the state is `cleanup`. Then it shows the next state only after a reload.
    """
    page.get_by_role("button", name="Stop").click()
    eventually(
        lambda: page.request.get(f"{page.url}/stats/requests").json()["state"] == "stopped", what="end of the load"
    )
    page.reload()
    expect(page.get_by_role("banner")).to_contain_text("stopped")


def test_the_load_is_stopped_and_started(load: str, watched: WatchedPage) -> None:
    """The page shows that the load runs; Stop stops it, and New with another number of users restarts it."""
    page = watched.page
    page.goto(load)
    banner = page.get_by_role("banner")
    expect(banner).to_contain_text("running")
    expect(page.get_by_role("row").filter(has_text="/<beast>").first).to_be_visible()
    stop(page)
    page.get_by_role("button", name="New").click()
    page.get_by_label("Number of users").fill("3")
    page.get_by_role("button", name="Start", exact=True).click()
    expect(banner).to_contain_text("running")
    expect(banner).to_contain_text("Users3")
    stop(page)
