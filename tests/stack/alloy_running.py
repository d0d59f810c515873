"""Run the real Alloy with the files of its folder on free ports, and the gateway in place of Tempo."""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from local.ports import LOOPBACK, answers, free_port
from local.processes.process import Process
from tests.integration.running import DEADLINE_S, Gateway
from tests.seams.tree import ROOT
from tools.query import is_up

FOLDER = ROOT / "alloy"
BINARY = os.environ.get("ALLOY_BIN") or shutil.which("alloy")
needs_alloy = pytest.mark.skipif(not BINARY, reason="there is no alloy on the PATH, and ALLOY_BIN is not set")


def alloy(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run one of Alloy's commands until it exits."""
    assert BINARY
    return subprocess.run(  # noqa: S603 - constant arguments
        [BINARY, *arguments], capture_output=True, text=True, check=False, timeout=DEADLINE_S, env=os.environ | environ
    )


class Alloy:
    """A running Alloy with the URLs at which it receives signals."""

    def __init__(self, process: Process, http: str, environ: Mapping[str, str]) -> None:
        self.process = process
        self.http = http
        self.otlp = f"http://{environ['ALLOY_OTLP_HTTP']}"
        self.lines = f"http://{LOOPBACK}:{environ['ALLOY_LOKI_PORT']}"
        self.faro = f"http://{LOOPBACK}:{environ['ALLOY_FARO_PORT']}/collect"

    def components(self) -> dict[str, dict[str, Any]]:
        """Return each component with its state, from Alloy's web API."""
        with urllib.request.urlopen(f"{self.http}/api/v0/web/components", timeout=5) as response:  # noqa: S310 - a local Alloy
            return {each["localID"]: each for each in json.load(response)}


def environ(folder: Path, traces: int = 1, logs: int = 1, **choices: str) -> dict[str, str]:
    """Return an environment with free ports for Alloy, and ports that receive its traces and logs; port 1 is closed."""
    endpoints = {
        "metrics": {"url": f"http://{LOOPBACK}:1/api/v1/push"},
        "logs": {"url": f"http://{LOOPBACK}:{logs}/loki/api/v1/push"},
        "traces": {
            "url": f"http://{LOOPBACK}:{traces}",
            "tls": {"insecure": True, "insecureSkipVerify": True},
        },
        "profiles": {"url": f"http://{LOOPBACK}:1"},
        "backends": [],
    }
    file = folder / "endpoints.json"
    file.write_text(json.dumps(endpoints))
    ports = {"ALLOY_LOKI_PORT", "ALLOY_PYROSCOPE_PORT", "ALLOY_FARO_PORT"}
    addresses = {"ALLOY_OTLP_GRPC", "ALLOY_OTLP_HTTP", "ALLOY_HTTP", "ALLOY_RABBITMQ", "MYTHICAL_SERVER_HOST_PORT"}
    return (
        {"ALLOY_ENDPOINTS": str(file), "ALLOY_LISTEN": LOOPBACK, "ALLOY_LOG_LEVEL": "warn"}
        | {name: str(free_port()) for name in ports}
        | {name: f"{LOOPBACK}:{free_port()}" for name in addresses}
        | {f"MYTHICAL_{service}_HOST_PORT": f"{LOOPBACK}:{free_port()}" for service in ("REQUESTER", "RECORDER")}
        | {
            "ALLOY_POSTGRES_QUERIES": str(FOLDER / "postgres-queries.yaml"),
            "ALLOY_POSTGRES_LOG": str(folder / "none.log"),
        }
        | {"ALLOY_POSTGRES": f"postgresql://nobody@{LOOPBACK}:1/postgres?sslmode=disable"}
        | choices
    )


@contextmanager
def running(folder: Path, settings: Mapping[str, str]) -> Iterator[Alloy]:
    """Run Alloy with the files of its folder; yield it when it receives signals, and stop it afterwards."""
    with loaded(FOLDER, folder, settings) as alloy:
        # When Alloy is ready, it has read the files; the components open their ports a moment later.
        ports = [int(settings[name].rpartition(":")[2]) for name in ("ALLOY_OTLP_HTTP", "ALLOY_LOKI_PORT")]
        alloy.process.wait_ready(lambda: all(answers(port) for port in ports), DEADLINE_S)
        yield alloy


@contextmanager
def loaded(config: Path, folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Alloy]:
    """Run Alloy with a file or a folder; yield it when the configuration is loaded, and stop it afterwards."""
    assert BINARY
    settings = settings or environ(folder)
    http = settings["ALLOY_HTTP"]
    storage = f"--storage.path={folder / 'data'}"
    process = Process(
        "alloy",
        [BINARY, "run", str(config), storage, f"--server.http.listen-addr={http}", "--disable-reporting"],
        log=folder / "alloy.log",
        record=folder / "alloy.pid",
        mark=storage,
        environ=os.environ | settings,
    )
    process.launch()
    try:
        process.wait_ready(lambda: is_up(f"http://{http}/-/ready"), DEADLINE_S)
        yield Alloy(process, f"http://{http}", settings)
    finally:
        process.stop(2)


@contextmanager
def gateway(folder: Path) -> Iterator[Gateway]:
    """Run the gateway, which receives traces and has an API to query them."""
    flags = [
        part for flag in ("otlp-grpc", "otlp-http", "loki", "pyroscope", "faro", "page") for part in (f"--{flag}", "0")
    ]
    process = Process(
        "gateway",
        [sys.executable, "-m", "local.gateway", *flags],
        log=folder / "gateway.log",
        record=folder / "gateway.pid",
        mark="local.gateway",
    )
    process.launch()
    try:
        process.wait_ready(lambda: "ready {" in process.tail(), DEADLINE_S)
        ready = re.search(r"^ready (\{.*\})$", process.tail(), re.MULTILINE)
        assert ready, process.tail()
        yield Gateway(process, json.loads(ready[1]))
    finally:
        process.stop(5)
