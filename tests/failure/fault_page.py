"""The page of the injected faults as a separate process."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from local.ports import free_port
from local.processes.process import Process
from tests.integration.conftest import DEADLINE_S, STOP_S
from tools.query import is_up


@contextmanager
def fault_page(folder: Path, **settings: str) -> Iterator[str]:
    """Serve the page of the injected faults; yield its URL."""
    port = free_port()
    process = Process(
        "page",
        [sys.executable, "-m", "workshop", "page"],
        log=folder / "page.log",
        record=folder / "page.pid",
        mark="workshop",
        environ=os.environ | {"DEMO_WORKSHOP_PORT": str(port)} | settings,
    )
    url = f"http://127.0.0.1:{port}"
    process.launch()
    try:
        process.wait_ready(lambda: is_up(f"{url}/readyz"), DEADLINE_S)
        yield url
    finally:
        process.stop(STOP_S)
