"""What the layer for Grafana Cloud needs: credentials, and addresses in place of placeholders."""

import json
from collections.abc import Mapping
from pathlib import Path

from doctor.dotenv import ROOT, required
from doctor.report import BROKEN, Finding

LAYER = "docker-compose-cloud.yml"
ENDPOINTS = "alloy/endpoints-cloud.json"
SEE = "see Grafana Cloud in docs/compose.md"


def check(told: Mapping[str, str]) -> list[Finding]:
    """Look for credentials that are missing and addresses that are none."""
    return [*credentials(told), *addresses(ROOT / ENDPOINTS)]


def credentials(told: Mapping[str, str]) -> list[Finding]:
    """Report each credential of the layer without a value."""
    names = required(LAYER)
    missing = [name for name in names if not told.get(name)]
    found = [
        Finding("credentials", f"{name} has no value", BROKEN, f"put it into cloud.env, {SEE}") for name in missing
    ]
    return found or [Finding("credentials", f"all {len(names)} are there")]


def addresses(file: Path) -> list[Finding]:
    """Report each signal whose address is a placeholder or none at all."""
    try:
        endpoints = json.loads(file.read_text(encoding="utf-8"))
        urls = {signal: str(endpoints[signal]["url"]) for signal in ("metrics", "logs", "traces", "profiles")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        return [Finding("addresses", f"{ENDPOINTS} cannot be read: {error!r}", BROKEN, f"git checkout {ENDPOINTS}")]
    found = []
    for signal, url in urls.items():
        if "<" in url:
            said = f"{ENDPOINTS} still has {url} for {signal}"
        elif not url.startswith(("https://", "http://")) and signal != "traces":
            said = f"{ENDPOINTS} has {url!r} for {signal}, which is no address"
        else:
            continue
        found.append(Finding("addresses", said, BROKEN, f"put your stack's address there, {SEE}"))
    return found or [Finding("addresses", "all four are there")]
