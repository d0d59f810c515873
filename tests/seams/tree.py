"""Read the files of the repository."""

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
    """Return the files under version control, or without version control all files that no tool created."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607
    if listed.returncode == 0:
        paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        paths = [path for path in ROOT.rglob("*") if not SKIPPED & set(path.relative_to(ROOT).parts)]
    return tuple(path for path in paths if path.is_file())


def texts(suffix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the name and text of each committed text file whose name has that suffix."""
    for path in committed():
        if path.name.endswith(suffix):
            try:
                yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue


def sections(text: str) -> Iterator[tuple[str, str]]:
    """Yield the sections of a Markdown text: the heading without its marks, and the text up to the next heading."""
    parts = re.split(r"^#+ (.+)$", text, flags=re.MULTILINE)
    yield from zip(parts[1::2], parts[2::2], strict=True)


def rows(section: str) -> list[dict[str, str]]:
    """Return the rows of the only table in a section, by the names of its columns."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def words(cell: str) -> list[str]:
    """Return the texts in code format in a cell."""
    return CODE.findall(cell)
