"""The set-up of a checkout, where an earlier one did not come to its end."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

from local.state import CHECKOUT


@pytest.mark.timeout(180)
def test_an_environment_that_was_interrupted_while_it_was_made_is_made_anew(tmp_path: Path) -> None:
    """Ctrl-C leaves a Python without pip: the next set-up must not take that for an environment."""
    checkout = tmp_path / "checkout"
    for name in ("scripts", "requirements"):
        (checkout / name).mkdir(parents=True)
    (checkout / "scripts/setup").write_bytes((CHECKOUT / "scripts/setup").read_bytes())
    (checkout / "requirements/dev.txt").touch()  # no package: nothing has to be fetched
    venv.create(checkout / ".venv", with_pip=False)
    done = subprocess.run(
        ["bash", "scripts/setup", "python"],  # noqa: S607
        cwd=checkout,
        env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    subprocess.run([checkout / ".venv/bin/python", "-m", "pip", "--version"], check=True, stdout=subprocess.DEVNULL)  # noqa: S603
