"""The setup of a checkout: after an interrupted setup, and with any variables of the user's shell."""

import hashlib
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from local.state import CHECKOUT


@pytest.mark.parametrize("variables", [{}, {"PIP_REQUIREMENT": "/missing", "PIP_QUIET": "nonsense", "PIP_USER": "1"}])
def test_an_incomplete_environment_is_recreated(tmp_path: Path, variables: dict[str, str]) -> None:
    """Ctrl-C leaves a Python without pip: the next setup must not use it as an environment.

    Variables of the user's shell do not change what is installed.
    """
    checkout = tmp_path / "checkout"
    for name in ("scripts", "requirements"):
        (checkout / name).mkdir(parents=True)
    (checkout / "scripts/setup").write_bytes((CHECKOUT / "scripts/setup").read_bytes())
    (checkout / "requirements/dev.txt").touch()  # no package, so that nothing is downloaded
    venv.create(checkout / ".venv", with_pip=False)
    result = subprocess.run(
        ["bash", "scripts/setup", "python"],  # noqa: S607
        cwd=checkout,
        env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    subprocess.run([checkout / ".venv/bin/python", "-m", "pip", "--version"], check=True, stdout=subprocess.DEVNULL)  # noqa: S603


@pytest.mark.parametrize(
    "command",
    ["scripts/setup", "scripts/audit", "scripts/lock", "scripts/generate-proto", ".ci/run", "workshop/send-span 0 x:1"],
)
def test_scripts_work_in_their_checkout_with_cdpath_set(tmp_path: Path, command: str) -> None:
    """`cd scripts/..` searches CDPATH: with a folder of that name there, the environment was created in it."""
    script, *arguments = command.split()
    checkout, elsewhere, tools = tmp_path / "checkout", tmp_path / "elsewhere", tmp_path / "tools"
    for folder in (checkout, elsewhere):
        (folder / script).parent.mkdir(parents=True)
    (checkout / script).write_bytes((CHECKOUT / script).read_bytes())
    tools.mkdir()
    for name in ("python3", "uv", "make", "curl"):
        (tools / name).write_text('#!/bin/sh\npwd >>"$SEEN"\nexit 1\n')
        (tools / name).chmod(0o755)
    seen = tmp_path / "seen"
    subprocess.run(  # noqa: S603 - a script of this checkout
        ["bash", script, *arguments],  # noqa: S607
        cwd=checkout,
        env={
            "PATH": f"{tools}:/usr/bin:/bin",
            "PYTHON": str(tools / "python3"),
            "CDPATH": str(elsewhere),
            "SEEN": str(seen),
        },
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert set(seen.read_text().split()) == {str(checkout)}
    assert [path.name for path in elsewhere.iterdir()] == [Path(script).parts[0]]


def test_npm_installs_the_same_with_any_variables_of_the_shell(tmp_path: Path) -> None:
    """With NODE_ENV=production or a dry run, it would install less; where packages come from stays a choice."""
    for folder in ("scripts", "tools", "local/gateway/web/node_modules"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "scripts/setup").write_bytes((CHECKOUT / "scripts/setup").read_bytes())
    (tmp_path / "local/gateway/web/package-lock.json").touch()
    npm = tmp_path / "tools/npm"
    npm.write_text("#!/bin/sh\nenv | grep -i '^npm\\|^node' >seen\n")
    npm.chmod(0o755)
    kept = {"npm_config_registry": "http://mirror.example.org", "NPM_CONFIG_HTTPS_PROXY": "http://proxy.example.org"}
    foreign = {
        "NODE_ENV": "production",
        "NODE_OPTIONS": "-r missing",
        "npm_config_dry_run": "true",
        "NPM_CONFIG_PREFIX": "/",
    }
    subprocess.run(
        ["bash", "scripts/setup", "web"],  # noqa: S607
        cwd=tmp_path,
        env={"PATH": f"{npm.parent}:/usr/bin:/bin", **kept, **foreign},
        check=True,
    )
    # What a .npmrc with omit, global, location or dry-run would change.
    kept |= {"npm_config_include": "dev", "npm_config_location": "user"}
    kept |= {"npm_config_global": "false", "npm_config_dry_run": "false"}
    assert set((tmp_path / "seen").read_text().splitlines()) == {f"{name}={value}" for name, value in kept.items()}


@pytest.mark.parametrize("moved", ["prefix = {}", "[install]\ntarget = {}", "dry-run = true"])
def test_a_configuration_of_pip_selects_only_sources(tmp_path: Path, moved: str) -> None:
    """The package is found where the file says, and is installed into the environment of the checkout."""
    checkout, wheels, elsewhere = tmp_path / "checkout", tmp_path / "wheels", tmp_path / "elsewhere"
    for folder in (checkout / "scripts", checkout / "requirements", wheels):
        folder.mkdir(parents=True)
    (checkout / "scripts/setup").write_bytes((CHECKOUT / "scripts/setup").read_bytes())
    wheel = wheels / "one_module-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        info, tag = "one_module-1.dist-info", "Tag: py3-none-any"
        file.writestr("one_module.py", "")
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: one-module\nVersion: 1\n")
        file.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n{tag}\n")
        file.writestr(f"{info}/RECORD", "")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (checkout / "requirements/dev.txt").write_text(f"one-module==1 --hash=sha256:{digest}\n")
    configuration = tmp_path / "pip.conf"
    sources = f"no-index = true\nfind-links =\n  {tmp_path}/missing\n  {wheels}\n"
    configuration.write_text(f"[global]\n{sources}{moved.format(elsewhere)}\n")
    result = subprocess.run(
        ["bash", "scripts/setup", "python"],  # noqa: S607
        cwd=checkout,
        env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, "PIP_CONFIG_FILE": str(configuration)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    assert [*checkout.glob(".venv/lib/python3*/site-packages/one_module.py")]
    assert not elsewhere.exists()


def test_make_finds_its_modules_with_any_python_variables(tmp_path: Path) -> None:
    """With PYTHONSAFEPATH set, `python -m` does not search the checkout; a wrong PYTHONHASHSEED ends Python."""
    (tmp_path / "Makefile").write_bytes((CHECKOUT / "Makefile").read_bytes())
    (tmp_path / "doctor").mkdir()
    variables = ("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "PYTHONHASHSEED", "PYTHONINSPECT", "CDPATH")
    (tmp_path / "doctor/__main__.py").write_text(f"import os; print([v for v in {variables} if v in os.environ])")
    result = subprocess.run(
        ["make", "doctor"],  # noqa: S607
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, **dict.fromkeys(variables, "/elsewhere")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.stdout == "[]\n"
