"""The doctor checks make demo, and reports the service that was stopped."""

import json
import os
import subprocess
import sys
from typing import Any

from local.ports import LOOPBACK, free_port
from tests.integration.conftest import Gateway, Service, StartService, eventually

SIGNALS = {"traces", "metrics", "logs", "profiles"}


def run_doctor(ports: dict[str, int], *arguments: str) -> tuple[int, str, str]:
    """Run the doctor with these ports; return its exit status, output and errors."""
    environment = {f"DEMO_{name}_PORT": str(number) for name, number in ports.items()}
    result = subprocess.run(  # noqa: S603 - constant arguments
        [sys.executable, "-m", "doctor", *arguments, "local"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return result.returncode, result.stdout, result.stderr


def cells(ports: dict[str, int]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the cells of a report by service and signal."""
    _, out, _ = run_doctor(ports, "--json")
    return {(cell["service"], cell["signal"]): cell for cell in json.loads(out)["cells"]}


def test_a_stopped_service_is_the_broken_hop(gateway: Gateway, service: StartService) -> None:
    """All signals of the server are late for one reason, which is reported with a remedy."""
    server: Service = service("server")
    unreachable = {"REQUESTER": free_port(), "RECORDER": free_port()}
    ports = unreachable | {"PAGE": gateway.ports["page"], "SERVER": server.port}

    def all_arrived() -> bool:
        found = cells(ports)
        return {
            signal for name, signal in found if name == "mythical-server" and found[name, signal]["age_s"]
        } == SIGNALS

    # The maintenance of the tables makes a trace, and a profile arrives every ten seconds.
    eventually(all_arrived, what="every signal of the server")
    server.ended_by_test = True
    assert server.process.stop(10) == 0

    def late() -> list[dict[str, Any]]:
        found = cells(ports)
        late_cells = [found["mythical-server", signal] for signal in ("traces", "metrics", "logs")]
        return late_cells if all(cell["state"] == "late" for cell in late_cells) else []

    for cell in eventually(late, what="late signals of the server"):
        assert cell["fault"]["hop"] == "mythical-server"
        assert f"does not answer at http://{LOOPBACK}:{server.port}" in cell["fault"]["said"]
        assert "var/log/server.log" in cell["fault"]["remedy"]
    status, out, _ = run_doctor(ports)
    assert status == 1
    assert max(map(len, out.splitlines())) <= 80


def test_a_gateway_that_does_not_run_is_reported() -> None:
    """The state of the signals is then unknown."""
    port = free_port()
    status, out, _ = run_doctor({"PAGE": port})
    assert status == 1
    assert f"gateway: does not answer at http://{LOOPBACK}:{port}" in out


def test_a_wrong_setting_is_one_line_and_status_2() -> None:
    """An invalid port is reported by the doctor; an invalid argument by argparse."""
    environment = os.environ | {"DEMO_PAGE_PORT": "many"}
    result = subprocess.run(
        [sys.executable, "-m", "doctor", "local"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "doctor: DEMO_PAGE_PORT='many' is not a whole number; use one from 1 to 65535\n"
    result = subprocess.run(
        [sys.executable, "-m", "doctor", "elsewhere"], capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 2
    assert "elsewhere" in result.stderr
