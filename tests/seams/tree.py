"""Read the files of the repository."""

import re
import subprocess
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = re.compile(r"`([^`]+)`")


@cache
def committed() -> tuple[Path, ...]:
    """Return the files under version control; all files where Git cannot list them, as in a downloaded archive."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607
    except (OSError, subprocess.CalledProcessError):
        return tuple(not_ignored(ROOT))
    return tuple(path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file())


def not_ignored(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder that .gitignore, of which each line is a name, does not exclude."""
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    ignored = [".git", *(line.rstrip("/") for line in lines if not line.startswith("#"))]
    for path in folder.iterdir():
        if any(fnmatch(path.name, pattern) for pattern in ignored):
            continue
        if path.is_dir():
            yield from not_ignored(path)
        else:
            yield path


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
