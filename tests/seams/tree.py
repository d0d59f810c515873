"""The files of the repository, as data."""

import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SKIPPED = {".git", ".venv", "node_modules", "__pycache__", "var"}
CODE = re.compile(r"`([^`]+)`")


@cache
def committed() -> tuple[Path, ...]:
    """The files under version control; in a copy without it, all that are not made by a tool."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607
    if listed.returncode == 0:
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        paths = [path for path in ROOT.rglob("*") if not SKIPPED & set(path.relative_to(ROOT).parts)]
    return tuple(path for path in paths if path.is_file())


def texts(suffix: str = "") -> Iterator[tuple[str, str]]:
    """Name and text of each committed file whose name ends so; what is no text is passed over."""
    for path in committed():
        if path.name.endswith(suffix):
            try:
                yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


def sections(text: str) -> Iterator[tuple[str, str]]:
    """The sections of a Markdown text: heading without its marks, and what stands under it up to the next heading."""
    parts = re.split(r"^#+ (.+)$", text, flags=re.MULTILINE)
    yield from zip(parts[1::2], parts[2::2], strict=True)


def rows(section: str) -> list[dict[str, str]]:
    """The rows of the one table in a section, by the names of its columns."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def words(cell: str) -> list[str]:
    """What is written as code in a cell."""
    return CODE.findall(cell)
