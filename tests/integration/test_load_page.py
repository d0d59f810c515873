"""Locust's page: the load starts by itself, and its users can be changed, stopped and restarted."""

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
    """Locust's web page, and the actions of a user."""

    def __init__(self, url: str) -> None:
        self._url = url

    def get(self, path: str) -> Any:
        """Return the JSON at `path`."""
        with urllib.request.urlopen(self._url + path, timeout=60) as response:  # noqa: S310 - a local page
            return json.load(response)

    def press(self, path: str, **form: int) -> None:
        """Send the request of a button of the page."""
        data = urllib.parse.urlencode(form).encode()
        urllib.request.urlopen(self._url + path, data, timeout=60).close()  # noqa: S310 - a local page

    def wait_for(self, users: int) -> None:
        """Wait until the load has this number of users."""
        eventually(lambda: self._users() == users, what=f"{users} users")

    def _users(self) -> int:
        try:
            return int(self.get("/stats/requests")["user_count"])
        except OSError:
            return -1


@contextmanager
def page(folder: Path, **settings: str) -> Iterator[Page]:
    """Run the load with two users on a stand-in for the server; SIGTERM stops it without a stack trace."""
    port = free_port()
    with stand_in() as host, (folder / "log").open("wb") as log:
        settings = environment(
            folder,
            **{"LOAD_HOST": host, "LOAD_HEADLESS": "false", "LOAD_PORT": str(port), "LOAD_USERS": "2"} | settings,
        )
        load = subprocess.Popen(  # noqa: S603 - a constant program
            [PYTHON, "-m", "loadtest"], env=settings, cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            yield Page(f"http://{LOOPBACK}:{port}")
            load.send_signal(signal.SIGTERM)
            load.wait(60)
        finally:
            load.kill()
            load.wait()
    assert "Traceback" not in (folder / "log").read_text()


def test_the_page_changes_and_stops_users(tmp_path: Path) -> None:
    """There are two users at first, five on demand, none after a stop."""
    with page(tmp_path) as load:
        load.wait_for(2)
        load.press("/swarm", user_count=5, spawn_rate=5)
        load.wait_for(5)
        load.press("/stop")
        load.wait_for(0)


def test_a_restarted_load_is_a_separate_run(tmp_path: Path, gateway: Gateway) -> None:
    """Its spans, requests and users have another run id, and the first run then reports zero users.

    The zero ends the first run's annotation in the dashboards. It is sent although the second run starts at once.
    """
    run = f"again-{free_port()}"
    collector = f"http://{LOOPBACK}:{gateway.ports['otlp_http']}"

    def users(run_id: str) -> int | None:
        metrics = gateway.get("metrics", name="locust.users", service="mythical-loadtest")
        points = [point for metric in metrics for point in metric["points"]]
        values = [point["value"] for point in points if point["attributes"]["run_id"] == run_id]
        return sum(values) if values else None

    def runs_with_spans() -> set[str]:
        spans = gateway.get("spans", service="mythical-loadtest", limit=1000)
        return {span["attributes"].get("loadtest.run.id", "") for span in spans}

    settings = {"OTEL_SDK_DISABLED": "false", "LOAD_COLLECTOR": collector, "LOAD_RUN_ID": run}
    with page(tmp_path, **settings) as load:
        eventually(lambda: users(run) == 2, what="two users of the first run")
        load.press("/stop")
        load.press("/swarm", user_count=3, spawn_rate=3)
        eventually(lambda: users(f"{run}.2") == 3, what="three users of the second run")
        assert users(run) == 0
        load.press("/stop")
        load.press("/swarm", user_count=1, spawn_rate=1)
        eventually(lambda: users(f"{run}.3") == 1, what="one user of the third run")
        assert users(f"{run}.2") == 0
        eventually(lambda: {run, f"{run}.2", f"{run}.3"} <= runs_with_spans(), what="spans of all three runs")


def test_the_pages_log_reports_where_a_load_breaks(tmp_path: Path) -> None:
    """With a page there is no report; its log has the result of each run."""
    breaks = {"LOAD_SHAPE": "break", "LOAD_TIME": "3"}

    def reports(load: Page) -> int:
        try:
            return sum("did not break up to" in line for line in load.get("/logs")["master"])
        except OSError:
            return 0

    with page(tmp_path, **breaks) as load:
        eventually(lambda: reports(load) == 1, what="the end of the first run")
        load.press("/swarm", user_count=2, spawn_rate=2)
        eventually(lambda: reports(load) == 2, what="the end of the second run")
