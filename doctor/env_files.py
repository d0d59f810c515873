"""The variables of docker compose: those of the shell, of .env and of further files, with the checks of each."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from common.core.address import shown
from doctor.report import BROKEN, Finding, Unusable

ROOT = Path(__file__).resolve().parents[1]
# ${NAME:?why} in a compose file: compose does not start without a value.
REQUIRED = re.compile(r"\$\{(\w+):\?")
LARGEST_PORT = 65535
CLOUD_LAYER = "docker-compose-cloud.yml"
CLOUD_ENDPOINTS = "alloy/endpoints-cloud.json"
CLOUD_DOCS = "see Grafana Cloud in docs/compose.md"


def read(file: Path) -> dict[str, str]:
    """Return the variables of a file with NAME=value lines. Raises Unusable if it cannot be read."""
    try:
        text = file.read_text(encoding="utf-8-sig")  # as compose: editors of Windows write a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"{file}: {getattr(error, 'strerror', None) or 'is not a text file'}") from None
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.lstrip().startswith("#"))
    return {
        name.strip().removeprefix("export "): re.sub(r"\s+#.*$", "", value).strip().strip("\"'")
        for name, value in pairs
    }


def values(environ: Mapping[str, str], files: Sequence[Path]) -> dict[str, str]:
    """Return all values; a later file overrides an earlier one, and the shell overrides all files."""
    found: dict[str, str] = {}
    for file in files:
        found |= read(file)
    return found | {name: value for name, value in environ.items() if value}


def required(compose_file: str) -> list[str]:
    """Return the variables that a compose file requires, in its order."""
    return list(dict.fromkeys(REQUIRED.findall((ROOT / compose_file).read_text(encoding="utf-8"))))


def port(variables: Mapping[str, str], name: str) -> int:
    """Return the port in a variable. Raises Unusable if it is missing or not a port number."""
    text = variables.get(name, "")
    if not text.isdecimal() or not 1 <= int(text[:6]) <= LARGEST_PORT:
        raise Unusable(f"{name}={shown(text)!r} is not a port; use a whole number from 1 to {LARGEST_PORT}")
    return int(text)


def check(variables: Mapping[str, str], compose_file: str = "docker-compose.yml") -> list[Finding]:
    """Report missing values, invalid ports, and ports that occur twice."""
    names = required(compose_file)
    found = [
        Finding(".env", f"{name} has no value", BROKEN, f"restore the line {name}=… in .env")
        for name in names
        if not variables.get(name)
    ]
    found += _ports(variables, [name for name in names if name.endswith("_PORT") and variables.get(name)])
    return found or [Finding(".env", f"all {len(names)} values are set")]


def _ports(variables: Mapping[str, str], names: Sequence[str]) -> Iterator[Finding]:
    seen: dict[int, str] = {}
    for name in names:
        try:
            number = port(variables, name)
        except Unusable as error:
            yield Finding(".env", str(error), BROKEN, f"correct {name} in .env or in the shell")
            continue
        if number in seen:
            both = f"{seen[number]} and {name} are both {number}"
            yield Finding(".env", both, BROKEN, "use a different port for each")
        seen.setdefault(number, name)


def check_cloud(variables: Mapping[str, str], endpoints: Path = ROOT / CLOUD_ENDPOINTS) -> list[Finding]:
    """Report missing credentials of the Grafana Cloud layer, and endpoints that are placeholders or invalid."""
    return [*credentials(variables), *cloud_urls(endpoints)]


def credentials(variables: Mapping[str, str]) -> list[Finding]:
    """Report each credential of the Grafana Cloud layer without a value."""
    names = required(CLOUD_LAYER)
    found = [
        Finding("credentials", f"{name} has no value", BROKEN, f"set it in cloud.env, {CLOUD_DOCS}")
        for name in names
        if not variables.get(name)
    ]
    return found or [Finding("credentials", f"all {len(names)} are set")]


def cloud_urls(file: Path) -> list[Finding]:
    """Report each signal whose URL is a placeholder or invalid."""
    try:
        endpoints = json.loads(file.read_text(encoding="utf-8"))
        urls = {signal: str(endpoints[signal]["url"]) for signal in ("metrics", "logs", "traces", "profiles")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = f"{CLOUD_ENDPOINTS} cannot be read: {error!r}"
        return [Finding("endpoints", said, BROKEN, f"git checkout {CLOUD_ENDPOINTS}")]
    found = []
    for signal, url in urls.items():
        if "<" in url:
            said = f"{CLOUD_ENDPOINTS} still has {shown(url)} for {signal}"
        elif not url.startswith(("https://", "http://")) and signal != "traces":
            said = f"{CLOUD_ENDPOINTS} has {shown(url)!r} for {signal}, which is not a URL"
        else:
            continue
        found.append(Finding("endpoints", said, BROKEN, f"set the URL of your stack, {CLOUD_DOCS}"))
    return found or [Finding("endpoints", "all four are set")]
