"""Locust's page: the load starts by itself; its users can be changed, stopped and started again while it runs."""

import json
import signal
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local.ports import LOOPBACK, free_port
from local.state import CHECKOUT
from tests.integration.conftest import eventually
from tests.integration.load_support import PYTHON, environment, needs_locust, stand_in
from tests.integration.running import Gateway

pytestmark = needs_locust


class Page:
    """The load with its page, and what one does there."""

    def __init__(self, address: str) -> None:
        self._address = address

    def ask(self, path: str) -> Any:
        """Give the JSON at `path`."""
        with urllib.request.urlopen(self._address + path, timeout=60) as answer:  # noqa: S310 - our own page
            return json.load(answer)

    def press(self, path: str, **form: int) -> None:
        """Send what a button of the page sends."""
        data = urllib.parse.urlencode(form).encode()
        urllib.request.urlopen(self._address + path, data, timeout=60).close()  # noqa: S310 - our own page

    def wait_for(self, users: int) -> None:
        """Return once there are so many users."""
        eventually(lambda: self._users() == users, what=f"{users} users")

    def _users(self) -> int:
        try:
            return int(self.ask("/stats/requests")["user_count"])
        except OSError:
            return -1


@contextmanager
def page(folder: Path, **settings: str) -> Iterator[Page]:
    """Run the load with two users, against a stand-in for the server; SIGTERM ends it without a stack trace."""
    port = free_port()
    with stand_in() as host, (folder / "log").open("wb") as log:
        told = environment(
            folder,
            **{"LOAD_HOST": host, "LOAD_HEADLESS": "false", "LOAD_PORT": str(port), "LOAD_USERS": "2"} | settings,
        )
        load = subprocess.Popen(  # noqa: S603 - our own program
            [PYTHON, "-m", "loadtest"], env=told, cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            yield Page(f"http://{LOOPBACK}:{port}")
            load.send_signal(signal.SIGTERM)
            load.wait(60)
        finally:
            load.kill()
            load.wait()
    assert "Traceback" not in (folder / "log").read_text()


def test_users_are_changed_and_stopped_on_the_page(tmp_path: Path) -> None:
    """Two users from the start, five on demand, none after a stop."""
    with page(tmp_path) as load:
        load.wait_for(2)
        load.press("/swarm", user_count=5, spawn_rate=5)
        load.wait_for(5)
        load.press("/stop")
        load.wait_for(0)


def test_a_load_that_is_started_again_is_a_run_of_its_own(tmp_path: Path, gateway: Gateway) -> None:
    """Its spans, requests and users are told under a name of its own, and the first run has no users any more.

    The last is what ends the first run's mark in the dashboards. It is told although the second run begins at once.
    """
    run = f"again-{free_port()}"
    collector = f"http://{LOOPBACK}:{gateway.ports['otlp_http']}"

    def users(run_id: str) -> int | None:
        figures = gateway.get("metrics", name="locust.users", service="mythical-loadtest")
        points = [point for figure in figures for point in figure["points"]]
        counted = [point["value"] for point in points if point["attributes"]["run_id"] == run_id]
        return sum(counted) if counted else None

    def runs_that_asked() -> set[str]:
        spans = gateway.get("spans", service="mythical-loadtest", limit=1000)
        return {span["attributes"].get("loadtest.run.id", "") for span in spans}

    told = {"OTEL_SDK_DISABLED": "false", "LOAD_COLLECTOR": collector, "LOAD_RUN_ID": run}
    with page(tmp_path, **told) as load:
        eventually(lambda: users(run) == 2, what="two users of the first run")
        load.press("/stop")
        load.press("/swarm", user_count=3, spawn_rate=3)
        eventually(lambda: users(f"{run}.2") == 3, what="three users of the second run")
        assert users(run) == 0
        load.press("/stop")
        load.press("/swarm", user_count=1, spawn_rate=1)
        eventually(lambda: users(f"{run}.3") == 1, what="one user of the third run")
        assert users(f"{run}.2") == 0
        eventually(lambda: {run, f"{run}.2", f"{run}.3"} <= runs_that_asked(), what="spans of all three runs")


def test_where_a_load_breaks_is_told_by_the_page_as_well(tmp_path: Path) -> None:
    """There is no report beside a page: its log says it, of each run."""
    breaks = {"LOAD_SHAPE": "break", "LOAD_TIME": "3"}

    def told(load: Page) -> int:
        try:
            return sum("did not break up to" in line for line in load.ask("/logs")["master"])
        except OSError:
            return 0

    with page(tmp_path, **breaks) as load:
        eventually(lambda: told(load) == 1, what="the end of the first run")
        load.press("/swarm", user_count=2, spawn_rate=2)
        eventually(lambda: told(load) == 2, what="the end of the second run")
