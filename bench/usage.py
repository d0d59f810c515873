"""What a process and its children use: CPU time and memory, from /proc."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Usage:
    """CPU seconds so far; resident memory in MB, with shared pages in shares (PSS), and that which no file backs.

    The last is what a program has made itself: the share of a library's pages grows when others that use it end.
    """

    cpu_s: float
    rss_mb: float
    pss_mb: float
    own_mb: float


def usage(pid: int) -> Usage:
    """Sum over the process and all its descendants."""
    pids = [pid, *descendants(pid)]
    return Usage(
        cpu_s=sum(_cpu_s(one) for one in pids),
        rss_mb=sum(_smaps(one, "Rss") for one in pids),
        pss_mb=sum(_smaps(one, "Pss") for one in pids),
        own_mb=sum(_smaps(one, "Pss_Anon") for one in pids),
    )


def descendants(pid: int) -> list[int]:
    """The ids of all children and theirs."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text(encoding="ascii").split():
            found += [int(child), *descendants(int(child))]
    return found


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _smaps(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    return 0.0
