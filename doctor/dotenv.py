"""The values that docker compose gets: the shell's word first, then that of .env and the files after it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from doctor.report import BROKEN, Finding, Unusable

ROOT = Path(__file__).resolve().parents[1]
# ${NAME:?why} in a compose file: without a value nothing starts.
REQUIRED = re.compile(r"\$\{(\w+):\?")
LARGEST_PORT = 65535


def read(file: Path) -> dict[str, str]:
    """Return what a file of NAME=value lines sets. Raises Unusable if it cannot be read."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"{file}: {getattr(error, 'strerror', None) or 'is no text'}") from None
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.lstrip().startswith("#"))
    return {name.strip(): re.sub(r"\s+#.*$", "", value).strip().strip("\"'") for name, value in pairs}


def values(environ: Mapping[str, str], files: Sequence[Path]) -> dict[str, str]:
    """Return all values; a later file wins over an earlier one, and the shell over both."""
    told: dict[str, str] = {}
    for file in files:
        told |= read(file)
    return told | {name: value for name, value in environ.items() if value}


def required(compose_file: str) -> list[str]:
    """Return the variables that a compose file cannot do without, in its order."""
    return list(dict.fromkeys(REQUIRED.findall((ROOT / compose_file).read_text(encoding="utf-8"))))


def port(told: Mapping[str, str], name: str) -> int:
    """Return a port. Raises Unusable if it is missing or none."""
    text = told.get(name, "")
    if not text.isdecimal() or not 1 <= int(text[:6]) <= LARGEST_PORT:
        raise Unusable(f"{name}={text!r} is no port; give a whole number from 1 to {LARGEST_PORT}")
    return int(text)


def check(told: Mapping[str, str], compose_file: str = "docker-compose.yml") -> list[Finding]:
    """Look for values that are missing, and for ports that are none or the same."""
    names = required(compose_file)
    found = [
        Finding(".env", f"{name} has no value", BROKEN, f"put the line {name}=… back into .env")
        for name in names
        if not told.get(name)
    ]
    found += _ports(told, [name for name in names if name.endswith("_PORT") and told.get(name)])
    return found or [Finding(".env", f"all {len(names)} values are there")]


def _ports(told: Mapping[str, str], names: Sequence[str]) -> Iterator[Finding]:
    seen: dict[int, str] = {}
    for name in names:
        try:
            number = port(told, name)
        except Unusable as error:
            yield Finding(".env", str(error), BROKEN, f"mend {name} in .env or in the shell")
            continue
        if number in seen:
            both = f"{seen[number]} and {name} are both {number}"
            yield Finding(".env", both, BROKEN, "give each its own number")
        seen.setdefault(number, name)
