"""What each service holds in memory under the default load, with all four signals on."""

import time

from bench.report import Figure
from bench.stage import Stage
from bench.usage import usage


def memory_at_default_load(stage: Stage, *, seconds: float) -> list[Figure]:
    """Run the three services together; give each one's memory at the end, supervising process included.

    The figure is the proportional set size: pages that the two processes of a service share count once, as they do
    against a container's limit.
    """
    with (
        stage.service("server", signals=True) as (server, port),
        stage.service("recorder", signals=True) as (recorder, _),
        stage.service(
            "requester", signals=True, MYTHICAL_SERVER_HOST_PORT=f"127.0.0.1:{port}", REQUESTER_START="0"
        ) as (requester, _),
    ):
        pids = {"server": server, "requester": requester, "recorder": recorder}
        before = {name: usage(pid).cpu_s for name, pid in pids.items()}
        time.sleep(seconds)  # a length of load, not a wait for something
        used = {name: usage(pid) for name, pid in pids.items()}
    figures = [
        Figure(f"{name}_rss_mb", round(used[name].pss_mb, 1), "MB", f"{name}: memory under the default load")
        for name in pids
    ]
    cores = [
        Figure(
            f"{name}_cores",
            round((used[name].cpu_s - before[name]) / seconds, 3),
            "cores",
            f"{name}: CPU under the default load",
        )
        for name in pids
    ]
    largest = max(use.pss_mb for use in used.values())
    return [*figures, Figure("rss_mb", round(largest, 1), "MB", "largest service: memory"), *cores]
