"""A master and its workers: one run with one name, distributed among all workers, including late ones."""

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from local.ports import LOOPBACK, free_port
from local.state import CHECKOUT
from tests.integration.conftest import eventually
from tests.integration.load_support import PYTHON, environment, needs_locust, stand_in

pytestmark = needs_locust


@contextmanager
def part(folder: Path, role: str, **settings: str) -> Iterator[Path]:
    """Run a master or a worker; yield its log file, and stop it at the end."""
    log_file = folder / f"{role}-{free_port()}.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - a constant program
            [PYTHON, "-m", "loadtest"],
            env=environment(folder, LOAD_ROLE=role, **settings),
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield log_file
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            process.kill()


def test_a_late_worker_gets_a_share_of_the_same_run(tmp_path: Path) -> None:
    """Its users have other names, which end with the master's run id."""
    posts: list[tuple[str, str]] = []
    page = free_port()

    def shares() -> list[int]:
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{page}/stats/requests", timeout=60) as response:
                stats: dict[str, Any] = json.load(response)
        except OSError:
            return []
        return sorted(worker["user_count"] for worker in stats.get("workers", []))

    with ExitStack() as running:
        host = running.enter_context(stand_in(posts=posts))
        settings = {
            "LOAD_HOST": host,
            "LOAD_MASTER_PORT": str(free_port()),
            "LOAD_KINDS": "breeder=1",
            "LOAD_USERS": "4",
        }
        running.enter_context(
            part(tmp_path, "master", **settings, LOAD_HEADLESS="false", LOAD_PORT=str(page), LOAD_RUN_ID="of-master")
        )
        logs = [running.enter_context(part(tmp_path, "worker", **settings))]
        eventually(lambda: shares() == [4], what="four users of one worker")
        logs.append(running.enter_context(part(tmp_path, "worker", **settings)))
        eventually(lambda: shares() == [2, 2], what="two users of each worker")
        before = len(posts)
        eventually(lambda: len(posts) > before + 20, what="names from both")
    names = [name for _, name in posts]
    assert all(name.endswith("of-master") for name in names)
    assert len(set(names)) == len(names)
    assert not any("Traceback" in log.read_text() for log in logs)
