"""Runs the blocks of a page as an attendee would type them, with the ports of this run in place of the usual ones."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from local.processes.process import Process
from tests.seams.tree import ROOT
from tests.workshop.outputs import matches
from tests.workshop.pages import Block

# What was just sent shows up within seconds; on a busy machine it takes several times as long.
DEADLINE_S = 120.0
COMMAND_S = 180.0
BETWEEN_S = 0.5
ASSIGNED = re.compile(r"^([A-Z][A-Z_]*)=", re.MULTILINE)
ADDRESS = re.compile(r"((?:127\.0\.0\.1:|listen_port +=  *|PORT=|port-forward (?:-n \S+ )?\S+ ))(\d+)\b")
needs_jq = pytest.mark.skipif(
    not shutil.which("jq"), reason="there is no jq on the PATH (scripts/setup jq installs it)"
)
# What attendees write to: these they have as their own copies.
COPIED = ("docs/workshop/checkpoints", "alloy/exercise")


@dataclass
class Shell:
    """A terminal in a copy of the checkout; what a block assigns to a NAME, the next blocks know."""

    folder: Path
    ports: Mapping[str, int]
    environ: Mapping[str, str] = field(default_factory=dict)
    _running: list[Process] = field(default_factory=list)

    def run(self, block: Block) -> None:
        """Run a block, and again until its output is the expected one; fail the test if it never is."""
        if "background" in block.flags:
            self._start(block)
            return
        end = time.monotonic() + (0 if "once" in block.flags else DEADLINE_S)
        while fault := self._fault(block):
            if time.monotonic() > end:
                pytest.fail(f"{block.place}\n{block.text}\n{fault}{self._logs()}", pytrace=False)
            time.sleep(BETWEEN_S)

    def close(self) -> None:
        """End what runs in the background."""
        for process in reversed(self._running):
            process.stop(10)
        self._running.clear()

    def _fault(self, block: Block) -> str:
        script = f'test ! -e .names || . ./.names\n{self.moved(block.text)}\ncode=$?\n{_kept(block.text)}exit "$code"\n'
        try:
            done = self._bash(script)
        except subprocess.TimeoutExpired:
            return f"did not end within {COMMAND_S:.0f} s"
        if (done.returncode != 0) != ("fails" in block.flags):
            return f"ended with {done.returncode}:\n{done.stdout}"
        if block.expected is None or matches(done.stdout, self.moved(block.expected), like=block.like):
            return ""
        return f"said:\n{done.stdout}\ninstead of:\n{block.expected}"

    def _bash(self, script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - the commands are those of our own pages
            ["bash", "-c", script],  # noqa: S607
            cwd=self.folder,
            env=self._told(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=COMMAND_S,
        )

    def _start(self, block: Block) -> None:
        number = len(self._running)
        process = Process(
            f"{block.page}-{number}",
            ["bash", "-c", self.moved(block.text).strip()],
            log=self.folder / f"background-{number}.log",
            record=self.folder / f"background-{number}.pid",
            mark=block.text.split()[-1],
            environ=self._told(),
            folder=self.folder,
        )
        process.launch()
        self._running.append(process)

    def _told(self) -> dict[str, str]:
        path = f"{self.folder / 'bin'}:{ROOT / '.venv/bin'}:{os.environ['PATH']}"
        return {**os.environ, "LC_ALL": "C.UTF-8", "NO_PROXY": "127.0.0.1", **self.environ, "PATH": path}

    def _logs(self) -> str:
        return "".join(f"\n{process.name}:\n{process.tail(20)}" for process in self._running)

    def moved(self, text: str) -> str:
        """Give the text with the ports of this run."""
        return ADDRESS.sub(lambda found: f"{found[1]}{self.ports.get(found[2], found[2])}", text)


def _kept(text: str) -> str:
    return "".join(f"declare -p {name} >> .names 2> /dev/null\n" for name in ASSIGNED.findall(text))


@contextmanager
def shell(folder: Path, ports: Mapping[str, int], **environ: str) -> Iterator[Shell]:
    """Give a terminal in a new folder that looks like the checkout, and end what it started."""
    one = Shell(folder, ports, environ)
    _furnish(one)
    try:
        yield one
    finally:
        one.close()


def _furnish(one: Shell) -> None:
    (one.folder / "var").mkdir(parents=True)
    _link(ROOT, one.folder, {Path(copied) for copied in COPIED})
    for copied in COPIED:
        for source in sorted(path for path in (ROOT / copied).rglob("*") if path.is_file()):
            target = one.folder / source.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(one.moved(source.read_text(encoding="utf-8")), encoding="utf-8")
    (one.folder / "bin").mkdir()
    if alloy := os.environ.get("ALLOY_BIN") or shutil.which("alloy"):
        (one.folder / "bin/alloy").symlink_to(alloy)


def _link(source: Path, target: Path, copied: set[Path]) -> None:
    """Link what is in the source, but for the folders on the way to what is copied: these are made."""
    for entry in source.iterdir():
        inside = entry.relative_to(ROOT)
        if entry.name in {"var", ".git"} or inside in copied:
            continue
        if any(inside in one.parents for one in copied):
            (target / entry.name).mkdir()
            _link(entry, target / entry.name, copied)
        else:
            (target / entry.name).symlink_to(entry)
