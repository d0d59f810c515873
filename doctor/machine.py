"""What a start needs of this machine: Docker, Compose, memory, disk, free ports."""

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from doctor.containers import run
from doctor.dotenv import ROOT, port
from doctor.report import BROKEN, NOTE, Finding, Unusable
from local.ports import holder_of, is_free

DOCKER, COMPOSE = (20, 10), (2, 24)
# docs/compose.md says how much the suite holds; images and a day of data are the disk.
MEMORY_GB, DISK_GB, DISK_LEAST_GB = 2.0, 4.0, 1.0
GB = 1024**3
PUBLISHED = re.compile(r"127\.0\.0\.1:\$\{(\w+)")
MINIMAL = "docker compose -f docker-compose.yml -f docker-compose-minimal.yml up"


def docker() -> Finding:
    """Look for an engine that is new enough."""
    return _version("Docker", run("version", "--format", "{{.Server.Version}}"), DOCKER, "start it, or install it")


def compose() -> Finding:
    """Look for Compose."""
    return _version("Compose", run("compose", "version", "--short"), COMPOSE, "install docker-compose-plugin")


def _version(name: str, told: str | None, least: tuple[int, int], remedy: str) -> Finding:
    wanted = f"{least[0]}.{least[1]:02} or newer"
    if not (found := re.match(r"v?(\d+)\.(\d+)\S*", told or "")):
        return Finding(name, "does not answer", BROKEN, f"{remedy}; it has to be {wanted}")
    if (int(found[1]), int(found[2])) < least:
        return Finding(name, f"{found[0]} is too old", BROKEN, f"it has to be {wanted}")
    return Finding(name, f"{found[0]} ({wanted})")


def memory(meminfo: Path = Path("/proc/meminfo")) -> Finding:
    """Compare the memory that can be had with what the suite holds."""
    found = re.search(r"^MemAvailable: +(\d+) kB", meminfo.read_text() if meminfo.exists() else "", re.MULTILINE)
    # Elsewhere than on Linux, containers share the memory of a virtual machine.
    size = int(found[1]) * 1024 if found else int(run("info", "--format", "{{.MemTotal}}") or 0)
    if not size:
        return Finding("memory", "unknown", NOTE)
    said = f"{size / GB:.1f} GB to be had ({MEMORY_GB:g} needed)"
    return Finding("memory", said) if size >= MEMORY_GB * GB else Finding("memory", said, BROKEN, MINIMAL)


def disk() -> Finding:
    """Look at the room where Docker keeps images and volumes."""
    folder = Path((run("info", "--format", "{{.DockerRootDir}}") or "").strip() or "/")
    free = shutil.disk_usage(folder if folder.is_dir() else ROOT).free / GB
    said = f"{free:.1f} GB free ({DISK_GB:g} needed the first time)"
    if free >= DISK_GB:
        return Finding("disk", said)
    return Finding(
        "disk", said, NOTE if free >= DISK_LEAST_GB else BROKEN, "docker system prune frees what nobody uses"
    )


def ports(told: Mapping[str, str]) -> list[Finding]:
    """Look for ports that the suite wants to publish and somebody else has."""
    names = dict.fromkeys(PUBLISHED.findall((ROOT / "docker-compose.yml").read_text(encoding="utf-8")))
    taken = list(_taken(told, names))
    return taken or [Finding("ports", f"all {len(names)} are free")]


def _taken(told: Mapping[str, str], names: Mapping[str, None]) -> Iterator[Finding]:
    by_containers = run("ps", "--format", "{{.Names}} {{.Ports}}") or ""
    for name in names:
        try:
            number = port(told, name)
        except Unusable:
            continue  # .env is checked by itself
        if not is_free(number):
            container = re.search(rf"^(\S+) .*:{number}->", by_containers, re.MULTILINE)
            holder = f"container {container[1]}" if container else holder_of(number)
            said = "is taken by " + (holder or "someone whom only root can see")
            remedy = f"end it, or move the port: {name}={_another(number)} docker compose up"
            yield Finding(f"port {number}", said, BROKEN, remedy)


def _another(number: int) -> int:
    return next(each for each in range(number + 10_000, 65_536) if is_free(each)) if number < 50_000 else number - 1  # noqa: PLR2004
