"""The real Alloy with the files of its folder, on free ports, and the gateway in place of Tempo."""

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
needs_alloy = pytest.mark.skipif(not BINARY, reason="there is no alloy on the PATH, and ALLOY_BIN names none")


def alloy(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run one of Alloy's commands to its end."""
    assert BINARY
    return subprocess.run(  # noqa: S603 - our own arguments
        [BINARY, *arguments], capture_output=True, text=True, check=False, timeout=DEADLINE_S, env=os.environ | environ
    )


class Alloy:
    """A running Alloy, and where it takes what."""

    def __init__(self, process: Process, http: str, environ: Mapping[str, str]) -> None:
        self.process = process
        self.http = http
        self.otlp = f"http://{environ['ALLOY_OTLP_HTTP']}"
        self.lines = f"http://{LOOPBACK}:{environ['ALLOY_LOKI_PORT']}"
        self.faro = f"http://{LOOPBACK}:{environ['ALLOY_FARO_PORT']}/collect"

    def components(self) -> dict[str, dict[str, Any]]:
        """Each component with its state, as the page of Alloy has it."""
        with urllib.request.urlopen(f"{self.http}/api/v0/web/components", timeout=5) as answer:  # noqa: S310 - our own Alloy
            return {one["localID"]: one for one in json.load(answer)}


def environ(folder: Path, traces: int = 1, logs: int = 1, **choices: str) -> dict[str, str]:
    """Free ports for all that Alloy opens, and the ports of who takes its traces and lines; nobody is at port 1."""
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
    named = {"ALLOY_LOKI_PORT", "ALLOY_PYROSCOPE_PORT", "ALLOY_FARO_PORT"}
    addressed = {"ALLOY_OTLP_GRPC", "ALLOY_OTLP_HTTP", "ALLOY_HTTP", "ALLOY_RABBITMQ", "MYTHICAL_SERVER_HOST_PORT"}
    return (
        {"ALLOY_ENDPOINTS": str(file), "ALLOY_LISTEN": LOOPBACK, "ALLOY_LOG_LEVEL": "warn"}
        | {name: str(free_port()) for name in named}
        | {name: f"{LOOPBACK}:{free_port()}" for name in addressed}
        | {f"MYTHICAL_{service}_HOST_PORT": f"{LOOPBACK}:{free_port()}" for service in ("REQUESTER", "RECORDER")}
        | {
            "ALLOY_POSTGRES_QUERIES": str(FOLDER / "postgres-queries.yaml"),
            "ALLOY_POSTGRES_LOG": str(folder / "none.log"),
        }
        | {"ALLOY_POSTGRES": f"postgresql://nobody@{LOOPBACK}:1/postgres?sslmode=disable"}
        | choices
    )


@contextmanager
def running(folder: Path, told: Mapping[str, str]) -> Iterator[Alloy]:
    """Run Alloy with the files of its folder and give it when it takes signals; stop it afterwards."""
    with loaded(FOLDER, folder, told) as one:
        # Ready means that the files are read; the components open their ports a moment later.
        taking = [int(told[name].rpartition(":")[2]) for name in ("ALLOY_OTLP_HTTP", "ALLOY_LOKI_PORT")]
        one.process.wait_ready(lambda: all(answers(port) for port in taking), DEADLINE_S)
        yield one


@contextmanager
def loaded(config: Path, folder: Path, told: Mapping[str, str] | None = None) -> Iterator[Alloy]:
    """Run Alloy with a file or a folder of them and give it when these are read; stop it afterwards."""
    assert BINARY
    told = told or environ(folder)
    http = told["ALLOY_HTTP"]
    storage = f"--storage.path={folder / 'data'}"
    process = Process(
        "alloy",
        [BINARY, "run", str(config), storage, f"--server.http.listen-addr={http}", "--disable-reporting"],
        log=folder / "alloy.log",
        record=folder / "alloy.pid",
        mark=storage,
        environ=os.environ | told,
    )
    process.launch()
    try:
        process.wait_ready(lambda: is_up(f"http://{http}/-/ready"), DEADLINE_S)
        yield Alloy(process, f"http://{http}", told)
    finally:
        process.stop(2)


@contextmanager
def gateway(folder: Path) -> Iterator[Gateway]:
    """Run the gateway, which takes traces and can be asked for them."""
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
