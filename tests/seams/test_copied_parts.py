"""docs/instrument-your-own-service.md says which folders and how many lines each part of common/ needs."""

import ast
import re
from pathlib import Path

import pytest

from tests.seams.tree import ROOT, rows, sections, words

PAGE = (ROOT / "docs/instrument-your-own-service.md").read_text(encoding="utf-8")
TABLE = rows(dict(sections(PAGE))["Take more from `common/`"])
PARTS = {words(row["Take"])[0]: row["Lines"] for row in TABLE}
FOLDERS = {words(row["Take"])[0]: set(words(row["Folders of `common/`"])) for row in TABLE}
# The page has rounded numbers, which stay correct when a few lines are added.
TOLERANCE = 0.1


def module_file(name: str) -> Path | None:
    """Return the file of a module in common/ or services/, or None for other modules."""
    path = ROOT / name.replace(".", "/")
    found = [each for each in (path.with_suffix(".py"), path / "__init__.py") if each.is_file()]
    return found[0] if found and name.startswith(("common", "services")) else None


def brought(part: str) -> set[Path]:
    """Return the files of a part and of all its imports from common/ and services/, without the optional fast layer."""
    start = ROOT / part
    waiting = list(start.glob("**/*.py")) if start.is_dir() else [start]
    fast = ROOT / "common/fast"
    found: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in found or (path.is_relative_to(fast) and not start.is_relative_to(fast)):
            continue
        found.add(path)
        packages = path.relative_to(ROOT).parts[:-1]
        waiting += [ROOT.joinpath(*packages[:depth], "__init__.py") for depth in range(1, len(packages) + 1)]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            waiting += [file for name in names if (file := module_file(name))]
    return found


@pytest.mark.parametrize("part", PARTS)
def test_the_lines_of_a_part_are_about_those_on_the_page(part: str) -> None:
    """A reader decides by this number."""
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in brought(part))
    named = re.fullmatch(r"about ([\d,]+)", PARTS[part])
    assert named, f"{part}: about {lines:,}"
    assert abs(int(named[1].replace(",", "")) - lines) <= TOLERANCE * lines, f"{part}: about {lines:,}"


@pytest.mark.parametrize("part", PARTS)
def test_the_folders_of_a_part_are_those_that_it_imports(part: str) -> None:
    """A copy without one of them would not start."""
    inside = [path.relative_to(ROOT / "common").parts for path in brought(part) if path.is_relative_to(ROOT / "common")]
    assert {parts[0] for parts in inside if len(parts) > 1} == FOLDERS[part]


def test_the_versions_to_install_are_the_locked_ones() -> None:
    """With these, pip finds compatible versions at once, and the tests run the example with them."""
    pinned = re.findall(r"[\w-]+==[\w.]+", PAGE)
    assert pinned
    assert set(pinned) <= set(re.findall(r"^[\w-]+==[\w.]+", (ROOT / "requirements/run.txt").read_text(), re.MULTILINE))
