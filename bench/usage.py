"""What a process and its descendants use: CPU time, memory and open files; and each service under the default load."""

import time
from dataclasses import dataclass

from bench.report import Measurement
from bench.testbed import TestBed
from local.processes.record import process_tree


@dataclass(frozen=True)
class Usage:
    """CPU seconds so far; resident memory in MB, with shared pages in shares (PSS), and that which no file backs.

    The last is what a program allocated itself: the share of a library's pages grows when others that use it end.
    """

    cpu_s: float
    rss_mb: float
    pss_mb: float
    own_mb: float
    files: int


def usage(pid: int) -> Usage:
    """Sum over the process and all its descendants."""
    tree = process_tree(pid)
    times = [process.cpu_times() for process in tree]
    areas = [area for process in tree for area in process.memory_maps()]
    return Usage(
        cpu_s=sum(time.user + time.system for time in times),
        rss_mb=sum(area.rss for area in areas) / 2**20,
        pss_mb=sum(area.pss for area in areas) / 2**20,
        # Areas without a file are named [anon], [heap] and [stack].
        own_mb=sum(area.pss for area in areas if area.path.startswith("[")) / 2**20,
        files=sum(process.num_fds() for process in tree),
    )


def memory_at_default_load(testbed: TestBed, *, seconds: float) -> list[Measurement]:
    """Run the three services together; return each one's memory at the end, its supervising process included.

    The figure is the proportional set size: pages that the two processes of a service share count once, as they do
    against a container's limit.
    """
    with (
        testbed.service("server", signals=True) as (server, port),
        testbed.service("recorder", signals=True) as (recorder, _),
        testbed.service(
            "requester", signals=True, MYTHICAL_SERVER_HOST_PORT=f"127.0.0.1:{port}", REQUESTER_START="0"
        ) as (requester, _),
    ):
        pids = {"server": server, "requester": requester, "recorder": recorder}
        before = {name: usage(pid).cpu_s for name, pid in pids.items()}
        time.sleep(seconds)  # the length of the load, not a wait for something
        used = {name: usage(pid) for name, pid in pids.items()}
    figures = [
        Measurement(f"{name}_rss_mb", round(used[name].pss_mb, 1), "MB", f"{name}: memory under the default load")
        for name in pids
    ]
    cores = [
        Measurement(
            f"{name}_cores",
            round((used[name].cpu_s - before[name]) / seconds, 3),
            "cores",
            f"{name}: CPU under the default load",
        )
        for name in pids
    ]
    largest = max(use.pss_mb for use in used.values())
    return [*figures, Measurement("rss_mb", round(largest, 1), "MB", "largest service: memory"), *cores]
