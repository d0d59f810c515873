"""The memory of a service, as Linux counts it."""

import re
from pathlib import Path

from tests.integration.conftest import Service


def anonymous_mb(service: Service) -> float:
    """The memory that the service's processes made themselves, in MB (Linux, /proc/PID/smaps_rollup)."""
    told = [
        Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
        for pid in [service.process.pid, *_children(service)]
    ]
    return sum(int(re.findall(r"Anonymous:\s+(\d+) kB", text)[0]) for text in told) / 1000


def _children(service: Service) -> list[int]:
    listed = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text(encoding="ascii")
    return [int(pid) for pid in listed.split()]
