"""The lock files have what pyproject.toml requires."""

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
    """Return a package's name in the normalized form of the packaging specifications."""
    return re.sub(r"[-_.]+", "-", name).lower()


def locked(file: str) -> dict[str, str]:
    """Return the packages of a lock file by name, each with its lines."""
    text = (ROOT / "requirements" / file).read_text(encoding="utf-8")
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)
    return {normal(re.split(r"[=\[ ;@]", entry, maxsplit=1)[0]): entry for entry in entries if entry[:1].isalnum()}


@pytest.mark.parametrize("file", HOLDS)
def test_every_required_package_is_locked(file: str) -> None:
    """An installation would lack a package that is not locked."""
    required = {normal(re.split(r"[\[~=<>!; ]", one, maxsplit=1)[0]) for one in HOLDS[file]}
    assert required <= set(locked(file))


@pytest.mark.parametrize("file", HOLDS)
def test_every_locked_package_has_one_version_and_its_hashes(file: str) -> None:
    """What is installed is then what was tested, from any registry."""
    packages = locked(file)
    assert packages
    for name, entry in packages.items():
        assert re.match(r"[A-Za-z0-9._\-\[\],]+==[^\s;]+", entry), name
        hashes = re.findall(r"--hash=(\S+)", entry)
        assert hashes, name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), name


@pytest.mark.parametrize("file", HOLDS)
def test_no_lock_file_names_an_address(file: str) -> None:
    """The machine that installs chooses the registry."""
    text = (ROOT / "requirements" / file).read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*--(extra-|find-|index|trusted)", text, re.MULTILINE)


def test_dependencies_of_the_services_have_the_same_version_in_tests_and_image() -> None:
    """Otherwise, the tests would run with other versions than the image."""
    run, dev = locked("run.txt"), locked("dev.txt")
    for name, entry in run.items():
        assert dev[name].split()[0] == entry.split()[0]


def test_the_image_has_no_load_generator_and_no_test_tool() -> None:
    """They contain servers and debuggers."""
    assert not {"locust", "gevent", "pytest", "hypothesis", "mypy", "ruff", "rich"} & set(locked("run.txt"))


def test_npm_locks_have_no_registry_and_all_hashes() -> None:
    """The frontends and the Node programs of the tests use them."""
    for path in committed():
        if path.name != "package-lock.json":
            continue
        text = path.read_text(encoding="utf-8")
        assert '"resolved"' not in text
        assert text.count('"integrity"') == text.count('"version"') >= 1
