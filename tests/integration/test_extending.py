"""The example service of docs/extending.md is complete: it runs and emits all four signals."""

import os
import re
import shutil
import sys
from pathlib import Path

from local.ports import LOOPBACK, free_port
from local.processes.process import Process
from local.state import CHECKOUT
from tests.integration.conftest import DEADLINE_S, STOP_S, Gateway, eventually
from tests.integration.service_support import ask, spans_of, traceparent
from tools.query import is_up

FILE = re.compile(r"^`(services/greeter/\w+\.py)`:\n\n```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NAME = "mythical-greeter"


def test_the_service_of_the_page_has_all_four_signals(tmp_path: Path, gateway: Gateway) -> None:
    """With its files next to the other services, each signal has one request; SIGTERM stops the service."""
    for folder in ("common", "services"):
        shutil.copytree(CHECKOUT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    files = FILE.findall((CHECKOUT / "docs/extending.md").read_text(encoding="utf-8"))
    (tmp_path / "services/greeter").mkdir()
    for name, text in files:
        (tmp_path / name).write_text(text, encoding="utf-8")
    port = free_port()
    process = Process(
        "greeter",
        [sys.executable, "-m", "services.greeter"],
        log=tmp_path / "greeter.log",
        record=tmp_path / "greeter.pid",
        mark="services.greeter",
        environ=os.environ
        | gateway.settings
        # With a safe path, the services of the current folder, which has no greeter, aren't found first.
        | {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(tmp_path), "HTTP_PORT": str(port)},
    )
    process.launch()
    try:
        process.wait_ready(lambda: is_up(f"http://{LOOPBACK}:{port}/readyz"), DEADLINE_S)
        trace_id, headers = traceparent()
        response = ask(f"http://{LOOPBACK}:{port}", "/greetings/Ash", headers=headers)
        assert response.status == 200
        assert "Hello, Ash" in response.text
        assert eventually(lambda: spans_of(gateway, trace_id))[0]["name"] == "GET /greetings/<name>"
        eventually(lambda: trace_id in str(gateway.get("logs", service=NAME)), what="log line")
        eventually(lambda: "mythical.greetings" in str(gateway.get("metrics", service=NAME)), what="metric")
        eventually(lambda: NAME in str(gateway.get("profiles")), what="profile")
    finally:
        assert process.stop(STOP_S) == 0
