"""What pyproject.toml asks for is what the lock files hold."""

import re
import tomllib

import pytest

from tests.seams.tree import ROOT, committed

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
GROUPS: dict[str, list[str]] = PROJECT["dependency-groups"]
HOLDS = {
    "run.txt": PROJECT["project"]["dependencies"],
    "dev.txt": PROJECT["project"]["dependencies"] + GROUPS["local"] + GROUPS["test"] + GROUPS["check"],
    "load.txt": GROUPS["load"],
    "node.txt": GROUPS["node"],
    "audit.txt": GROUPS["audit"],
    "fuzz.txt": GROUPS["fuzz"],
}


def normal(name: str) -> str:
    """A package's name as the packaging specifications compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(file: str) -> dict[str, str]:
    """The packages of a lock file: name, and the lines that belong to it."""
    text = (ROOT / "requirements" / file).read_text(encoding="utf-8")
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)
    return {normal(re.split(r"[=\[ ;@]", entry, maxsplit=1)[0]): entry for entry in entries if entry[:1].isalnum()}


@pytest.mark.parametrize("file", HOLDS)
def test_everything_that_is_asked_for_is_locked(file: str) -> None:
    """Else an installation would not have it."""
    asked = {normal(re.split(r"[\[~=<>!; ]", one, maxsplit=1)[0]) for one in HOLDS[file]}
    assert asked <= set(locked(file))


@pytest.mark.parametrize("file", HOLDS)
def test_every_locked_package_has_one_version_and_its_hashes(file: str) -> None:
    """So that what is installed is what was tested, wherever it comes from."""
    packages = locked(file)
    assert packages
    for name, entry in packages.items():
        assert re.match(r"[A-Za-z0-9._\-\[\],]+==[^\s;]+", entry), name
        hashes = re.findall(r"--hash=(\S+)", entry)
        assert hashes, name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), name


@pytest.mark.parametrize("file", HOLDS)
def test_no_lock_file_names_an_address(file: str) -> None:
    """The registry is the business of the machine that installs."""
    text = (ROOT / "requirements" / file).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*--(extra-|find-|index|trusted)", text, re.MULTILINE)


def test_what_the_services_run_on_is_locked_alike_for_tests_and_image() -> None:
    """A test with another version would test something else."""
    run, dev = locked("run.txt"), locked("dev.txt")
    for name, entry in run.items():
        assert dev[name].split()[0] == entry.split()[0]


def test_no_load_generator_and_no_test_tool_is_in_the_image() -> None:
    """They bring servers and debuggers of their own."""
    assert not {"locust", "gevent", "pytest", "hypothesis", "mypy", "ruff", "rich"} & set(locked("run.txt"))


def test_npm_locks_name_no_registry_and_have_their_hashes() -> None:
    """The same for what the front ends and the Node programs of the tests are made of."""
    for path in committed():
        if path.name != "package-lock.json":
            continue
        text = path.read_text(encoding="utf-8")
        assert '"resolved"' not in text
        assert text.count('"integrity"') == text.count('"version"') >= 1
