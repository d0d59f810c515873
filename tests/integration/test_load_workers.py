"""A master and its workers: one run under one name, shared out among all, those that come late too."""

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
def part(folder: Path, role: str, **told: str) -> Iterator[Path]:
    """Run a master or a worker; give the file of what it says, and end it."""
    said = folder / f"{role}-{free_port()}.log"
    with said.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own program
            [PYTHON, "-m", "loadtest"],
            env=environment(folder, LOAD_ROLE=role, **told),
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield said
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            process.kill()


def test_a_worker_that_comes_late_takes_its_share_of_the_same_run(tmp_path: Path) -> None:
    """Its users draw names of their own, which end with the run that the master named."""
    asked: list[tuple[str, str]] = []
    page = free_port()

    def shares() -> list[int]:
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{page}/stats/requests", timeout=60) as answer:
                told: dict[str, Any] = json.load(answer)
        except OSError:
            return []
        return sorted(worker["user_count"] for worker in told.get("workers", []))

    with ExitStack() as running:
        host = running.enter_context(stand_in(asked=asked))
        told = {"LOAD_HOST": host, "LOAD_MASTER_PORT": str(free_port()), "LOAD_KINDS": "breeder=1", "LOAD_USERS": "4"}
        running.enter_context(
            part(tmp_path, "master", **told, LOAD_HEADLESS="false", LOAD_PORT=str(page), LOAD_RUN_ID="of-master")
        )
        logs = [running.enter_context(part(tmp_path, "worker", **told))]
        eventually(lambda: shares() == [4], what="four users of one worker")
        logs.append(running.enter_context(part(tmp_path, "worker", **told)))
        eventually(lambda: shares() == [2, 2], what="two users of each worker")
        before = len(asked)
        eventually(lambda: len(asked) > before + 20, what="names from both")
    names = [name for _, name in asked]
    assert all(name.endswith("of-master") for name in names)
    assert len(set(names)) == len(names)
    assert not any("Traceback" in log.read_text() for log in logs)
