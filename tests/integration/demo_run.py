"""Run make demo as a separate process with its own ports and folder."""

import os
import subprocess
import sys
from pathlib import Path

import psutil

from local.ports import DEFAULTS, free_port
from tests.integration.running import eventually

# Starting everything takes 10 s on an idle machine and several times that on a busy one.
STARTED_S = 180.0
STOPPED_S = 60.0


class DemoRun:
    """A demo with its own ports and folder, and with its output in a file."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.output = folder / "output"
        ports = {variable: str(free_port()) for _, variable, _ in DEFAULTS}
        self.environ = {
            **os.environ,
            **ports,
            "MYTHICAL_STATE": str(folder / "state"),
            "DEMO_ASPIRE": "false",
            "REQUESTER_START": "0",
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        """Start the demo and return the supervising process."""
        with self.output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "local.demo"], env=self.environ, stdout=output, stderr=output
            )
        return self._process

    def stop(self) -> None:
        """Stop the demo cleanly, so that no process remains."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(STOPPED_S)

    def close(self) -> None:
        """Kill the demo, whether the test passed or failed."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def printed(self) -> str:
        """Return the output so far."""
        return self.output.read_text()

    def wait_started(self) -> None:
        """Wait until all seven processes are ready."""
        names = ("gateway", "requester", "server", "recorder", "frontend", "postgres", "rabbitmq")
        eventually(
            lambda: all(f"\n{name} " in f"\n{self.printed()}" for name in names),
            STARTED_S,
            f"not all ready: {self.printed()}",
        )

    def remaining(self) -> list[str]:
        """Return the commands of all running processes with this run's folder in their environment."""
        return [
            " ".join(process.info["cmdline"] or [])
            for process in psutil.process_iter(["cmdline", "environ"])
            if any(str(self.folder) in value for value in (process.info["environ"] or {}).values())
        ]
