"""Run the load as a program, with a stand-in for a slow or failing server."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from local.ports import LOOPBACK
from local.state import CHECKOUT

PYTHON = CHECKOUT / ".venv-load/bin/python"
RUN_S = 300.0

needs_locust = pytest.mark.skipif(not PYTHON.exists(), reason="Locust is not installed; scripts/setup load installs it")


@dataclass(frozen=True)
class LoadRun:
    """A finished run: exit status, output, and results if it wrote any."""

    code: int
    output: str
    folder: Path

    @property
    def results(self) -> dict[str, Any]:
        """The content of load.json."""
        found: dict[str, Any] = json.loads((self.folder / "load.json").read_text(encoding="utf-8"))
        return found


def environment(folder: Path, **settings: str) -> dict[str, str]:
    """Return the environment of a run that writes its results to the folder."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LOAD_", "OTEL_"))}
    quiet = {"OTEL_SDK_DISABLED": "true", "LOAD_HEADLESS": "true", "LOAD_RESULTS": str(folder)}
    return {**inherited, **quiet, **settings}


def run_load(folder: Path, *arguments: str, **settings: str) -> LoadRun:
    """Run the load until it ends; the output includes standard error."""
    return run_enough_load(0, folder, *arguments, **settings)


def run_enough_load(least: int, folder: Path, *arguments: str, **settings: str) -> LoadRun:
    """Run the load; if it makes fewer requests than `least`, as on a busy machine, run it again four times as long."""
    while True:
        finished = subprocess.run(  # noqa: S603 - a constant program
            [str(PYTHON), "-m", "loadtest", *arguments],
            env=environment(folder, **settings),
            cwd=CHECKOUT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_S,
            check=False,
        )
        run = LoadRun(finished.returncode, finished.stdout, folder)
        if not least or run.results["figures"]["requests"] >= least:
            return run
        settings["LOAD_TIME"] = str(int(settings["LOAD_TIME"]) * 4)


@contextmanager
def stand_in(
    *, delay_s: float = 0.0, broken: bool = False, posts: list[tuple[str, str]] | None = None
) -> Iterator[str]:
    """Yield the URL of a server that answers like ours but `delay_s` late, or 503 to all but the first check.

    It appends path and name of each POST to `posts`.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def respond(self, status: int, body: bytes = b"") -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if posts is not None and self.command == "POST":
                posts.append((self.path, json.loads(sent)["name"]))
            time.sleep(delay_s)
            self.send_response(503 if broken and "limit=1" not in self.path.split("?")[-1].split("&") else status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.respond(200, b"[]")

        def do_POST(self) -> None:
            self.respond(201)

        def do_DELETE(self) -> None:
            self.respond(204)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the base class's
            """Log nothing."""

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
