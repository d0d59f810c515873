"""The doctor reports a running stack as healthy, and uses the configured ports."""

import json
import os
import subprocess
import sys

import pytest

from local.ports import free_port

SIGNALS = {"traces", "metrics", "logs", "profiles"}


def doctor(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the doctor on the stack."""
    return subprocess.run(  # noqa: S603 - constant arguments
        [sys.executable, "-m", "doctor", *arguments, "docker"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.usefixtures("stack")
def test_every_signal_of_every_service_is_fresh() -> None:
    """Each cell is fresh, also of the frontend, whose page the load opens; the backends are queried, not Alloy."""
    report = json.loads(doctor("--json", "--wait", "60").stdout)
    late = {(cell["service"], cell["signal"]): cell["fault"] for cell in report["cells"] if cell["state"] != "fresh"}
    assert late == {}
    assert {cell["signal"] for cell in report["cells"]} == SIGNALS
    assert len(report["cells"]) == 16


@pytest.mark.usefixtures("stack")
def test_an_unreachable_backend_is_the_broken_hop_of_its_signal_only() -> None:
    """The doctor gets a port on which nothing runs."""
    result = doctor("--json", LOKI_PORT=str(free_port()))
    report = json.loads(result.stdout)
    assert result.returncode == 1
    hops = {cell["fault"]["hop"] for cell in report["cells"] if cell["signal"] == "logs"}
    assert hops == {"collector → loki"}
    assert {cell["state"] for cell in report["cells"] if cell["signal"] != "logs"} == {"fresh"}
