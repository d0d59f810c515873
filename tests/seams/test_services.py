"""The services have the same files; an added service fails these tests until it is complete."""

import ast
from pathlib import Path

import pytest

from tests.seams.tree import ROOT, committed

FILES = {"__init__.py", "__main__.py", "config.py", "app.py"}


def services() -> list[str]:
    """Return the folders of services."""
    own = {path.relative_to(ROOT).parts[1:2] for path in committed() if path.relative_to(ROOT).parts[0] == "services"}
    return sorted(name for (name,) in own if "." not in name)


def tree(service: str, file: str) -> ast.Module:
    """Return the syntax tree of one of its files."""
    return ast.parse((ROOT / "services" / service / file).read_text(encoding="utf-8"))


def defined(module: ast.Module) -> set[str]:
    """Return the names that a module defines at its top level."""
    names = {node.name for node in module.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in module.body:
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def test_there_are_four_services() -> None:
    """If the list were empty, the tests below would have no parameters."""
    assert {"server", "requester", "recorder", "frontend"} <= set(services())


@pytest.mark.parametrize("service", services())
def test_a_service_has_the_common_files(service: str) -> None:
    """It can have more files."""
    existing = {path.name for path in (ROOT / "services" / service).iterdir()}
    assert existing >= FILES


@pytest.mark.parametrize("service", services())
def test_the_files_of_a_service_define_the_common_names(service: str) -> None:
    """config.py has the settings, __main__.py the entry point, and app.py the wiring and the web application."""
    assert {"SERVICE", "PORT", "Config", "load"} <= defined(tree(service, "config.py"))
    assert {"start", "create_app"} <= defined(tree(service, "app.py"))
    main = (ROOT / "services" / service / "__main__.py").read_text(encoding="utf-8")
    assert f'run_service(load, "services.{service}.app:start"' in main


@pytest.mark.parametrize("service", services())
def test_every_service_has_the_admin_endpoints(service: str) -> None:
    """create_admin_app serves health, readiness, metrics, and profiles."""
    wiring = (ROOT / "services" / service / "app.py").read_text(encoding="utf-8")
    assert "create_admin_app(" in wiring
    assert "dispatch_by_path(" in wiring


@pytest.mark.parametrize("service", services())
def test_every_service_is_in_the_settings_reference(service: str) -> None:
    """At least one section lists it as a reader."""
    page = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")
    assert any(service in line for line in page.splitlines() if line.startswith("Read by: "))


def test_no_file_shadows_the_standard_library() -> None:
    """Python would import a queue.py or a logging.py on the path instead of its module."""
    for top in ("common", "services", "local", "bench"):
        for path in (ROOT / top).rglob("*.py"):
            assert path.stem not in {"queue", "logging", "signal", "select", "socket", "types", "random"}, path
    assert not Path(ROOT / "queue.py").exists()
