"""Check whether the suite can start here with Docker: versions, memory, disk, free ports, variables, older data."""

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from doctor import env_files, surroundings
from doctor.containers import run
from doctor.env_files import ROOT, port
from doctor.report import BROKEN, NOTE, Finding, Report, Unusable
from local.ports import holder_of, is_free

DOCKER, COMPOSE = (20, 10), (2, 24)
# Memory use is documented in docs/compose.md; the disk holds images and a day of data.
MEMORY_GB, DISK_GB, DISK_LEAST_GB = 2.0, 4.0, 1.0
GB = 1024**3
PUBLISHED = re.compile(r"127\.0\.0\.1:\$\{(\w+)")
MINIMAL = "docker compose -f docker-compose.yml -f docker-compose-minimal.yml up"


def examine(environ: Mapping[str, str], env_file_paths: Sequence[Path], *, with_cloud: bool) -> Report:
    """Check this machine and the variables for compose. Raises Unusable if an additional file cannot be read."""
    machine = [docker(), compose(), memory(), disk(), *surroundings.check_shell(environ)]
    machine += [*surroundings.check_files(), *surroundings.check_selinux()]
    file = ROOT / ".env"
    if not file.exists():
        return Report("none", [*machine, Finding(".env", "is missing", BROKEN, "git checkout .env")])
    variables = env_files.values(environ, [file, *env_file_paths])
    cloud = env_files.check_cloud(variables) if with_cloud else []
    return Report(
        "none",
        [*machine, *env_files.check(variables), *ports(variables), *surroundings.check_database(variables), *cloud],
    )


def docker() -> Finding:
    """Check the version of the Docker engine."""
    if "podman" in (run("--version") or "").lower():
        said = "is Podman, with which the suite is not tested: its limits and mounts differ"
        return Finding("Docker", said, NOTE, "install Docker if the suite does not start")
    chosen = [name for name in ("DOCKER_HOST", "DOCKER_CONTEXT") if os.environ.get(name)]
    remedy = f"correct or unset {chosen[0]}" if chosen else "start it, or install it"
    return _version("Docker", run("version", "--format", "{{.Server.Version}}"), DOCKER, remedy)


def compose() -> Finding:
    """Check the version of Compose."""
    return _version("Compose", run("compose", "version", "--short"), COMPOSE, "install docker-compose-plugin")


def _version(name: str, reported: str | None, least: tuple[int, int], remedy: str) -> Finding:
    wanted = f"{least[0]}.{least[1]:02} or newer"
    if not (found := re.match(r"v?(\d+)\.(\d+)\S*", reported or "")):
        return Finding(name, "does not answer", BROKEN, f"{remedy}; required: {wanted}")
    if (int(found[1]), int(found[2])) < least:
        return Finding(name, f"{found[0]} is too old", BROKEN, f"install {wanted}")
    return Finding(name, f"{found[0]} ({wanted})")


def memory(meminfo: Path = Path("/proc/meminfo")) -> Finding:
    """Compare the available memory with what the suite needs."""
    found = re.search(r"^MemAvailable: +(\d+) kB", meminfo.read_text() if meminfo.exists() else "", re.MULTILINE)
    # On other systems than Linux, containers share the memory of a virtual machine.
    size = int(found[1]) * 1024 if found else int(run("info", "--format", "{{.MemTotal}}") or 0)
    if not size:
        return Finding("memory", "unknown", NOTE)
    said = f"{size / GB:.1f} GB available ({MEMORY_GB:g} needed)"
    return Finding("memory", said) if size >= MEMORY_GB * GB else Finding("memory", said, BROKEN, MINIMAL)


def disk() -> Finding:
    """Check the free space where Docker stores images and volumes."""
    folder = Path((run("info", "--format", "{{.DockerRootDir}}") or "").strip() or "/")
    free = shutil.disk_usage(folder if folder.is_dir() else ROOT).free / GB
    said = f"{free:.1f} GB free ({DISK_GB:g} needed for the first start)"
    if free >= DISK_GB:
        return Finding("disk", said)
    state = NOTE if free >= DISK_LEAST_GB else BROKEN
    return Finding("disk", said, state, "docker system prune removes unused images and containers")


def ports(variables: Mapping[str, str]) -> list[Finding]:
    """Report ports that the suite publishes and another process uses."""
    names = dict.fromkeys(PUBLISHED.findall((ROOT / "docker-compose.yml").read_text(encoding="utf-8")))
    taken = list(_taken(variables, names))
    return taken or [Finding("ports", f"all {len(names)} are free")]


def _taken(variables: Mapping[str, str], names: Mapping[str, None]) -> Iterator[Finding]:
    by_containers = run("ps", "--format", "{{.Names}} {{.Ports}}") or ""
    for name in names:
        try:
            number = port(variables, name)
        except Unusable:
            continue  # env_files.check reports it
        if not is_free(number):
            container = re.search(rf"^(\S+) .*:{number}->", by_containers, re.MULTILINE)
            holder = f"container {container[1]}" if container else holder_of(number)
            said = "is in use by " + (holder or "another user's process (run as root to see which)")
            remedy = f"stop it, or use another port: {name}={_another(number)} docker compose up"
            yield Finding(f"port {number}", said, BROKEN, remedy)


def _another(number: int) -> int:
    return next(each for each in range(number + 10_000, 65_536) if is_free(each)) if number < 50_000 else number - 1  # noqa: PLR2004
