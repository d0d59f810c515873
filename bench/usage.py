"""What a process and its descendants use: CPU time, memory and open files."""

from dataclasses import dataclass

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
