"""The doctor agrees that a running stack is well, and asks where it has been told to."""

import json
import os
import subprocess
import sys

import pytest

from local.ports import free_port

SIGNALS = {"traces", "metrics", "logs", "profiles"}


def doctor(*words: str, **told: str) -> subprocess.CompletedProcess[str]:
    """Run it on the stack."""
    return subprocess.run(  # noqa: S603 - our own arguments
        [sys.executable, "-m", "doctor", *words, "docker"],
        env=os.environ | told,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.usefixtures("stack")
def test_every_signal_of_every_service_is_fresh() -> None:
    """Each cell with its age; the back ends are asked, not Alloy."""
    report = json.loads(doctor("--json", "--wait", "60").stdout)
    late = {(cell["service"], cell["signal"]): cell["fault"] for cell in report["cells"] if cell["state"] != "fresh"}
    assert late == {}
    assert {cell["signal"] for cell in report["cells"]} == SIGNALS
    assert len(report["cells"]) == 12


@pytest.mark.usefixtures("stack")
def test_a_back_end_that_does_not_answer_is_the_broken_hop_of_its_signal_alone() -> None:
    """Here it is one that nobody ever started: its port is another."""
    done = doctor("--json", LOKI_PORT=str(free_port()))
    report = json.loads(done.stdout)
    assert done.returncode == 1
    hops = {cell["fault"]["hop"] for cell in report["cells"] if cell["signal"] == "logs"}
    assert hops == {"collector → loki"}
    assert {cell["state"] for cell in report["cells"] if cell["signal"] != "logs"} == {"fresh"}
