"""Locust's page: the load starts by itself, and its users can be changed and stopped while it runs."""

import json
import signal
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from local.ports import LOOPBACK, free_port
from local.state import CHECKOUT
from tests.integration.conftest import eventually
from tests.integration.load_support import PYTHON, environment, needs_locust, stand_in


@needs_locust
def test_users_are_changed_and_stopped_on_the_page(tmp_path: Path) -> None:
    """Two users from the start, five on demand, none after a stop; SIGTERM ends it."""
    page = f"http://{LOOPBACK}:{(port := free_port())}"

    def ask(path: str, **form: int) -> Any:
        # With a form it is a POST, as /swarm and /stop are.
        data = urllib.parse.urlencode(form).encode() if form else None
        with urllib.request.urlopen(page + path, data, timeout=5) as answer:  # noqa: S310 - our own page
            return json.load(answer)

    def users() -> int:
        try:
            return int(ask("/stats/requests")["user_count"])
        except OSError:
            return -1

    with stand_in() as host:
        told = environment(tmp_path, LOAD_HOST=host, LOAD_HEADLESS="false", LOAD_PORT=str(port), LOAD_USERS="2")
        with (tmp_path / "log").open("wb") as log:
            load = subprocess.Popen(  # noqa: S603 - our own program
                [PYTHON, "-m", "loadtest"], env=told, cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        try:
            eventually(lambda: users() == 2, what="two users")
            ask("/swarm", user_count=5, spawn_rate=5)
            eventually(lambda: users() == 5, what="five users")
            ask("/stop", at_once=1)
            eventually(lambda: users() == 0, what="no users")
            load.send_signal(signal.SIGTERM)
            load.wait(15)
        finally:
            load.kill()
            load.wait()
    assert "Traceback" not in (tmp_path / "log").read_text()
