"""The real Mimir with the files of its folder, on free ports, and samples for it that nobody measured."""

import json
import os
import shutil
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from local.ports import LOOPBACK, free_port
from local.processes.process import Process
from tests.seams.tree import ROOT
from tools.query import is_up

FOLDER = ROOT / "mimir"
BINARY = os.environ.get("MIMIR_BIN") or shutil.which("mimir")
TOOL = os.environ.get("MIMIRTOOL_BIN") or shutil.which("mimirtool")
needs_mimir = pytest.mark.skipif(not BINARY, reason="there is no mimir on the PATH, and MIMIR_BIN names none")
needs_mimirtool = pytest.mark.skipif(not TOOL, reason="there is no mimirtool on the PATH, and MIMIRTOOL_BIN names none")
START_S = 60.0

Json = dict[str, Any]
# A series: the name, and its labels as pairs.
Series = tuple[str, tuple[tuple[str, str], ...]]


def series(name: str, **labels: str) -> Series:
    """Name a series."""
    return name, tuple(sorted(labels.items()))


class Mimir:
    """A running Mimir, and what it is asked."""

    def __init__(self, process: Process, base: str) -> None:
        self.process = process
        self.base = base

    def get(self, path: str) -> Any:
        """Return the data of an answer of the interface of Prometheus."""
        with urllib.request.urlopen(f"{self.base}/prometheus/api/v1/{path}", timeout=10) as answer:  # noqa: S310 - our own Mimir
            return json.load(answer)["data"]

    def rules(self) -> list[Json]:
        """Return all rules with how their last evaluation went."""
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]

    def firing(self) -> set[tuple[str, str]]:
        """Return the alerts that fire, each with its severity."""
        alerts = [one for one in self.get("alerts")["alerts"] if one["state"] == "firing"]
        return {(one["labels"]["alertname"], one["labels"]["severity"]) for one in alerts}

    def push(self, values: dict[Series, float], at: float) -> None:
        """Push a sample of each series as of a time, in seconds since 1970.

        By OTLP, whose JSON needs no library here. Mimir keeps the names as they are: that of a gauge is not changed.
        """
        metrics = [gauge(name, dict(labels), value, at) for (name, labels), value in values.items()]
        body = {"resourceMetrics": [{"resource": {}, "scopeMetrics": [{"scope": {}, "metrics": metrics}]}]}
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.base}/otlp/v1/metrics", json.dumps(body).encode(), headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own Mimir
            answer.read()


def gauge(name: str, labels: dict[str, str], value: float, at: float) -> Json:
    """Return one sample in OTLP's JSON; to Prometheus a counter is a number like any other."""
    told = [{"key": key, "value": {"stringValue": text}} for key, text in labels.items()]
    point = {"timeUnixNano": str(int(at * 1e9)), "asDouble": value, "attributes": told}
    return {"name": name, "gauge": {"dataPoints": [point]}}


@contextmanager
def running(folder: Path, **told: str) -> Iterator[Mimir]:
    """Run Mimir with the files of its folder and give it when it is ready; stop it afterwards."""
    assert BINARY
    port = free_port()
    environ = {
        "MIMIR_LISTEN": LOOPBACK,
        "MIMIR_HTTP_PORT": str(port),
        "MIMIR_GRPC_PORT": str(free_port()),
        "MIMIR_GOSSIP_PORT": str(free_port()),
        "MIMIR_DATA": str(folder / "data"),
        "MIMIR_RULES": str(FOLDER / "rules"),
        "MIMIR_ALERTMANAGER": str(FOLDER / "alertmanager"),
    }
    # It notes what it works on in the folder that it is in.
    (folder / "data").mkdir(exist_ok=True)
    process = Process(
        "mimir",
        [BINARY, f"-config.file={FOLDER / 'mimir.yaml'}", "-config.expand-env=true",
         f"-activity-tracker.filepath={folder / 'activity.log'}"],
        log=folder / "mimir.log",
        record=folder / "mimir.pid",
        mark=str(FOLDER / "mimir.yaml"),
        environ=os.environ | environ | told,
    )  # fmt: skip
    process.launch()
    try:
        process.wait_ready(lambda: is_up(f"http://{LOOPBACK}:{port}/ready"), START_S)
        yield Mimir(process, f"http://{LOOPBACK}:{port}")
    finally:
        process.stop(10)


class Hook:
    """A listener for the webhook of the Alertmanager: which alerts were told, by status."""

    def __init__(self) -> None:
        self.told: set[tuple[str, str]] = set()
        self.port = 0


@contextmanager
def hook() -> Iterator[Hook]:
    """Listen on a free port until the end of the block."""
    heard = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            heard.told |= {(one["labels"]["alertname"], one["status"]) for one in body["alerts"]}
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
            """Say nothing."""

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    heard.port = server.server_address[1]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield heard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def now() -> float:
    """Return the time in whole seconds since 1970."""
    return float(int(time.time()))
