"""The services have the same files, so that knowing one is knowing all; a fourth fails until it is complete."""

import ast
from pathlib import Path

import pytest

from tests.seams.tree import ROOT, committed

FILES = {"__init__.py", "__main__.py", "config.py", "app.py"}


def services() -> list[str]:
    """The folders of services."""
    own = {path.relative_to(ROOT).parts[1:2] for path in committed() if path.relative_to(ROOT).parts[0] == "services"}
    return sorted(name for (name,) in own if "." not in name)


def tree(service: str, file: str) -> ast.Module:
    """The syntax tree of one of its files."""
    return ast.parse((ROOT / "services" / service / file).read_text(encoding="utf-8"))


def defined(module: ast.Module) -> set[str]:
    """What a module defines at its top."""
    names = {node.name for node in module.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in module.body:
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def test_there_are_four_services() -> None:
    """Were this list empty, the tests below would pass for want of a service."""
    assert {"server", "requester", "recorder", "frontend"} <= set(services())


@pytest.mark.parametrize("service", services())
def test_a_service_has_the_files_of_a_service(service: str) -> None:
    """Beside those of its subjects."""
    there = {path.name for path in (ROOT / "services" / service).iterdir()}
    assert there >= FILES


@pytest.mark.parametrize("service", services())
def test_the_files_of_a_service_hold_what_they_hold_in_each(service: str) -> None:
    """Settings and how they are read; what is run; the wiring and the web application."""
    assert {"SERVICE", "PORT", "Config", "load"} <= defined(tree(service, "config.py"))
    assert {"start", "create_app"} <= defined(tree(service, "app.py"))
    main = (ROOT / "services" / service / "__main__.py").read_text(encoding="utf-8")
    assert f'run_service(load, "services.{service}.app:start"' in main


@pytest.mark.parametrize("service", services())
def test_every_service_shows_the_pages_for_machines(service: str) -> None:
    """Health, readiness, metrics and profiles, from the one place that makes them."""
    wiring = (ROOT / "services" / service / "app.py").read_text(encoding="utf-8")
    assert "create_admin_app(" in wiring
    assert "dispatch_by_path(" in wiring


@pytest.mark.parametrize("service", services())
def test_every_service_is_in_the_settings_reference(service: str) -> None:
    """With at least one section that says what it reads."""
    page = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")
    assert any(service in line for line in page.splitlines() if line.startswith("Read by: "))


def test_no_file_shadows_the_standard_library() -> None:
    """A queue.py or a logging.py on the path would be imported in place of Python's own."""
    for top in ("common", "services", "local", "bench"):
        for path in (ROOT / top).rglob("*.py"):
            assert path.stem not in {"queue", "logging", "signal", "select", "socket", "types", "random"}, path
    assert not Path(ROOT / "queue.py").exists()
