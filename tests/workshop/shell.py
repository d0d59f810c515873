"""Run the blocks of a page in a shell, with the ports of this run instead of the default ones."""

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

# Data arrives within seconds; on a busy machine this takes several times as long.
DEADLINE_S = 120.0
COMMAND_S = 180.0
POLL_S = 0.5
ASSIGNED = re.compile(r"^([A-Z][A-Z_]*)=", re.MULTILINE)
ADDRESS = re.compile(r"((?:127\.0\.0\.1:|listen_port +=  *|PORT=|port-forward (?:-n \S+ )?\S+ ))(\d+)\b")
needs_jq = pytest.mark.skipif(
    not shutil.which("jq"), reason="there is no jq on the PATH (scripts/setup jq installs it)"
)
# Folders that the commands write to: the shell gets copies of them.
COPIED = ("docs/workshop/checkpoints", "alloy/exercise")


@dataclass
class Shell:
    """A terminal in a copy of the checkout; variables that a block assigns keep their values in later blocks."""

    folder: Path
    ports: Mapping[str, int]
    environ: Mapping[str, str] = field(default_factory=dict)
    _running: list[Process] = field(default_factory=list)

    def run(self, block: Block) -> None:
        """Run a block repeatedly until its output is the expected one; fail the test after the deadline."""
        if "background" in block.flags:
            self._start(block)
            return
        end = time.monotonic() + (0 if "once" in block.flags else DEADLINE_S)
        while fault := self._fault(block):
            if time.monotonic() > end:
                pytest.fail(f"{block.place}\n{block.text}\n{fault}{self._logs()}", pytrace=False)
            time.sleep(POLL_S)

    def close(self) -> None:
        """Stop all background processes."""
        for process in reversed(self._running):
            process.stop(10)
        self._running.clear()

    def _fault(self, block: Block) -> str:
        commands, save = self.with_ports(block.text), _save_variables(block.text)
        script = f'test ! -e .names || . ./.names\n{commands}\ncode=$?\n{save}exit "$code"\n'
        try:
            result = self._bash(script)
        except subprocess.TimeoutExpired:
            return f"did not exit within {COMMAND_S:.0f} s"
        if (result.returncode != 0) != ("fails" in block.flags):
            return f"exited with {result.returncode}:\n{result.stdout}"
        if block.expected is None or matches(result.stdout, self.with_ports(block.expected), like=block.like):
            return ""
        return f"printed:\n{result.stdout}\ninstead of:\n{block.expected}"

    def _bash(self, script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - the commands of our pages
            ["bash", "-c", script],  # noqa: S607
            cwd=self.folder,
            env=self._environment(),
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
            ["bash", "-c", self.with_ports(block.text).strip()],
            log=self.folder / f"background-{number}.log",
            record=self.folder / f"background-{number}.pid",
            mark=block.text.split()[-1],
            environ=self._environment(),
            folder=self.folder,
        )
        process.launch()
        self._running.append(process)

    def _environment(self) -> dict[str, str]:
        path = f"{self.folder / 'bin'}:{ROOT / '.venv/bin'}:{os.environ['PATH']}"
        return {**os.environ, "LC_ALL": "C.UTF-8", "NO_PROXY": "127.0.0.1", **self.environ, "PATH": path}

    def _logs(self) -> str:
        return "".join(f"\n{process.name}:\n{process.tail(20)}" for process in self._running)

    def with_ports(self, text: str) -> str:
        """Return the text with the ports of this run."""
        return ADDRESS.sub(lambda found: f"{found[1]}{self.ports.get(found[2], found[2])}", text)


def _save_variables(text: str) -> str:
    return "".join(f"declare -p {name} >> .names 2> /dev/null\n" for name in ASSIGNED.findall(text))


@contextmanager
def shell(folder: Path, ports: Mapping[str, int], **environ: str) -> Iterator[Shell]:
    """Yield a terminal in a new folder that looks like the checkout; stop its processes at the end."""
    terminal = Shell(folder, ports, environ)
    _fill_folder(terminal)
    try:
        yield terminal
    finally:
        terminal.close()


def _fill_folder(terminal: Shell) -> None:
    (terminal.folder / "var").mkdir(parents=True)
    _link(ROOT, terminal.folder, {Path(copied) for copied in COPIED})
    for copied in COPIED:
        for source in sorted(path for path in (ROOT / copied).rglob("*") if path.is_file()):
            target = terminal.folder / source.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(terminal.with_ports(source.read_text(encoding="utf-8")), encoding="utf-8")
    (terminal.folder / "bin").mkdir()
    if alloy := os.environ.get("ALLOY_BIN") or shutil.which("alloy"):
        (terminal.folder / "bin/alloy").symlink_to(alloy)


def _link(source: Path, target: Path, copied: set[Path]) -> None:
    """Link the entries of the source, except for parent folders of copied ones, which are created."""
    for entry in source.iterdir():
        inside = entry.relative_to(ROOT)
        if entry.name in {"var", ".git"} or inside in copied:
            continue
        if any(inside in each.parents for each in copied):
            (target / entry.name).mkdir()
            _link(entry, target / entry.name, copied)
        else:
            (target / entry.name).symlink_to(entry)
