"""The doctor asks the run without Docker, and names the service that was stopped."""

import json
import os
import subprocess
import sys
from typing import Any

from local.ports import LOOPBACK, free_port
from tests.integration.conftest import Gateway, Service, StartService, eventually

SIGNALS = {"traces", "metrics", "logs", "profiles"}


def asked(ports: dict[str, int], *words: str) -> tuple[int, str, str]:
    """Run the doctor with these ports; give its status, its output and its errors."""
    told = {f"DEMO_{name}_PORT": str(number) for name, number in ports.items()}
    done = subprocess.run(  # noqa: S603 - our own arguments
        [sys.executable, "-m", "doctor", *words, "local"],
        env=os.environ | told,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


def cells(ports: dict[str, int]) -> dict[tuple[str, str], dict[str, Any]]:
    """The cells of a report, by service and signal."""
    _, out, _ = asked(ports, "--json")
    return {(cell["service"], cell["signal"]): cell for cell in json.loads(out)["cells"]}


def test_a_service_that_was_stopped_is_the_broken_hop(gateway: Gateway, service: StartService) -> None:
    """All signals of the server are late for one reason, and it is named with what to do."""
    server: Service = service("server")
    nobody = {"REQUESTER": free_port(), "RECORDER": free_port()}
    ports = nobody | {"PAGE": gateway.ports["page"], "SERVER": server.port}

    def all_there() -> bool:
        found = cells(ports)
        return {
            signal for name, signal in found if name == "mythical-server" and found[name, signal]["age_s"]
        } == SIGNALS

    # A trace begins with the maintenance of the tables, a profile comes each ten seconds.
    eventually(all_there, what="every signal of the server")
    server.ended_by_test = True
    assert server.process.stop(10) == 0

    def late() -> list[dict[str, Any]]:
        found = cells(ports)
        mine = [found["mythical-server", signal] for signal in ("traces", "metrics", "logs")]
        return mine if all(cell["state"] == "late" for cell in mine) else []

    for cell in eventually(late, what="late signals of the server"):
        assert cell["fault"]["hop"] == "mythical-server"
        assert f"does not answer at http://{LOOPBACK}:{server.port}" in cell["fault"]["said"]
        assert "var/log/server.log" in cell["fault"]["remedy"]
    status, out, _ = asked(ports)
    assert status == 1
    assert max(map(len, out.splitlines())) <= 80


def test_a_gateway_that_does_not_run_is_named() -> None:
    """Nothing can be said of the signals then."""
    port = free_port()
    status, out, _ = asked({"PAGE": port})
    assert status == 1
    assert f"gateway: does not answer at http://{LOOPBACK}:{port}" in out


def test_what_cannot_be_used_is_one_line_and_status_2() -> None:
    """A port that is none; a word that is none is the business of argparse."""
    told = os.environ | {"DEMO_PAGE_PORT": "many"}
    done = subprocess.run(
        [sys.executable, "-m", "doctor", "local"], env=told, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "doctor: DEMO_PAGE_PORT='many' is not a whole number; use one from 1 to 65535\n"
    done = subprocess.run(
        [sys.executable, "-m", "doctor", "elsewhere"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "elsewhere" in done.stderr
