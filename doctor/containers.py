"""The suite's containers, as reported by the docker command, if it is installed."""

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from doctor.env_files import ROOT
from doctor.report import BROKEN, NOTE, Finding

NAME = re.compile(r"container_name: (\S+)")
RUNNING = "running"


@dataclass(frozen=True)
class Container:
    """A container: its state in Docker's terms, its health (or ""), and its environment variables."""

    name: str
    state: str
    health: str = ""
    exit_code: int = 0
    out_of_memory: bool = False
    started: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def running_s(self) -> float:
        """Seconds since the container was started."""
        # Docker writes nanoseconds, more digits than Python parses.
        began = datetime.fromisoformat(re.sub(r"\.\d+", "", self.started))
        return (datetime.now(UTC) - began).total_seconds()

    def describe(self) -> str:
        """Return the state in words, such as "exited with status 137, out of memory"."""
        if self.state == RUNNING:
            return f"runs and is {self.health}" if self.health else "runs"
        ended = f"is {self.state}" if self.state != "exited" else f"exited with status {self.exit_code}"
        return f"{ended}, out of memory" if self.out_of_memory else ended


def run(*arguments: str) -> str | None:
    """Return the output of a docker command; None if Docker is not installed or the command fails."""
    try:
        done = subprocess.run(["docker", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=20)  # noqa: S603, S607 - our own arguments
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def containers() -> dict[str, Container]:
    """Return the suite's containers by name, including stopped ones; empty if Docker does not answer."""
    ids = (run("ps", "-aq", "--filter", "label=com.docker.compose.service") or "").split()
    listed = json.loads(run("inspect", *ids) or "[]") if ids else []
    return {each.name: each for each in map(_container, listed) if each.name in known()}


def known() -> set[str]:
    """Return the container names in the compose files."""
    return {
        name for file in ROOT.glob("docker-compose*.yml") for name in NAME.findall(file.read_text(encoding="utf-8"))
    }


def check(found: Sequence[Container]) -> list[Finding]:
    """Report each container that is starting, stopped or unhealthy."""
    findings = []
    for each in found:
        if each.state == RUNNING and each.health == "starting":
            findings.append(
                Finding(each.name, f"starting for {each.running_s:.0f} s", NOTE, "wait, and run the doctor again")
            )
        elif each.state != RUNNING or each.health == "unhealthy":
            see = f"docker compose logs --tail 20 {each.name}"
            findings.append(Finding(each.name, each.describe(), BROKEN, see))
    return findings


def _container(inspected: dict[str, Any]) -> Container:
    state = inspected["State"]
    return Container(
        name=inspected["Name"].lstrip("/"),
        state=state["Status"],
        health=state.get("Health", {}).get("Status", ""),
        exit_code=state["ExitCode"],
        out_of_memory=state["OOMKilled"],
        started=state["StartedAt"],
        environment=dict(pair.split("=", 1) for pair in inspected["Config"]["Env"] or () if "=" in pair),
    )
