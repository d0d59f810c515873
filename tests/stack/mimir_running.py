"""Run the real Mimir with the files of its folder on free ports, and push synthetic samples to it."""

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
needs_mimir = pytest.mark.skipif(not BINARY, reason="there is no mimir on the PATH, and MIMIR_BIN is not set")
needs_mimirtool = pytest.mark.skipif(not TOOL, reason="there is no mimirtool on the PATH, and MIMIRTOOL_BIN is not set")
START_S = 60.0

Json = dict[str, Any]
# A series: the name, and its labels as pairs.
Series = tuple[str, tuple[tuple[str, str], ...]]


def series(name: str, **labels: str) -> Series:
    """Return a series with these labels."""
    return name, tuple(sorted(labels.items()))


class Mimir:
    """A running Mimir with its query and push APIs."""

    def __init__(self, process: Process, base: str) -> None:
        self.process = process
        self.base = base

    def get(self, path: str) -> Any:
        """Return the data of a response of the Prometheus API."""
        with urllib.request.urlopen(f"{self.base}/prometheus/api/v1/{path}", timeout=10) as response:  # noqa: S310 - a local Mimir
            return json.load(response)["data"]

    def rules(self) -> list[Json]:
        """Return all rules with the result of their last evaluation."""
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]

    def firing(self) -> set[tuple[str, str]]:
        """Return the firing alerts, each with its severity."""
        alerts = [one for one in self.get("alerts")["alerts"] if one["state"] == "firing"]
        return {(one["labels"]["alertname"], one["labels"]["severity"]) for one in alerts}

    def push(self, values: dict[Series, float], at: float) -> None:
        """Push a sample of each series as of a time, in seconds since 1970.

        OTLP's JSON needs no library here. Mimir does not change the name of a gauge.
        """
        metrics = [gauge(name, dict(labels), value, at) for (name, labels), value in values.items()]
        body = {"resourceMetrics": [{"resource": {}, "scopeMetrics": [{"scope": {}, "metrics": metrics}]}]}
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.base}/otlp/v1/metrics", json.dumps(body).encode(), headers)  # noqa: S310
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - a local Mimir
            response.read()


def gauge(name: str, labels: dict[str, str], value: float, at: float) -> Json:
    """Return one sample in OTLP's JSON; Prometheus doesn't distinguish counters from gauges."""
    attributes = [{"key": key, "value": {"stringValue": text}} for key, text in labels.items()]
    point = {"timeUnixNano": str(int(at * 1e9)), "asDouble": value, "attributes": attributes}
    return {"name": name, "gauge": {"dataPoints": [point]}}


@contextmanager
def running(folder: Path, **settings: str) -> Iterator[Mimir]:
    """Run Mimir with the files of its folder; yield it when it is ready, and stop it afterwards."""
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
    # Without this setting, Mimir writes its activity log to the working directory.
    (folder / "data").mkdir(exist_ok=True)
    process = Process(
        "mimir",
        [BINARY, f"-config.file={FOLDER / 'mimir.yaml'}", "-config.expand-env=true",
         f"-activity-tracker.filepath={folder / 'activity.log'}"],
        log=folder / "mimir.log",
        record=folder / "mimir.pid",
        mark=str(FOLDER / "mimir.yaml"),
        environ=os.environ | environ | settings,
    )  # fmt: skip
    process.launch()
    try:
        process.wait_ready(lambda: is_up(f"http://{LOOPBACK}:{port}/ready"), START_S)
        yield Mimir(process, f"http://{LOOPBACK}:{port}")
    finally:
        process.stop(10)


class Webhook:
    """A receiver of the Alertmanager's webhook: the received alerts with their status."""

    def __init__(self) -> None:
        self.received: set[tuple[str, str]] = set()
        self.port = 0


@contextmanager
def webhook() -> Iterator[Webhook]:
    """Listen on a free port until the end of the block."""
    receiver = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            receiver.received |= {(one["labels"]["alertname"], one["status"]) for one in body["alerts"]}
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
            """Log nothing."""

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    receiver.port = server.server_address[1]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def now() -> float:
    """Return the time in whole seconds since 1970."""
    return float(int(time.time()))
