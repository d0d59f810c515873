"""One look at the running suite: memory, open files, table sizes, queue and latency."""

from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
from prometheus_client.parser import text_string_to_metric_families

from bench.usage import usage
from tools.query import get_json, send

LARGEST_TABLE = """
    SELECT coalesce(max((xpath('/row/n/text()', query_to_xml(format('SELECT count(*) AS n FROM %I', tablename),
        false, true, '')))[1]::text::int), 0)
    FROM pg_tables WHERE schemaname = 'public'"""
ON_DISK = (
    "SELECT sum(pg_total_relation_size(format('%I', tablename)::regclass)) FROM pg_tables WHERE schemaname = 'public'"
)


@dataclass(frozen=True)
class Parts:
    """What is looked at: processes by name, the ports of server, recorder and the gateway's page, the database."""

    pids: Mapping[str, int]
    server_port: int
    recorder_port: int
    gateway_page: int
    dsn: str


@dataclass(frozen=True)
class Sample:
    """What was found: own memory and open files by process, rows, size on disk, waiting messages, requests so far.

    `window_full` is the share, 0 to 1, to which the gateway's window is full where it is emptiest.
    """

    memory_mb: dict[str, float]
    files: dict[str, int]
    largest_table: float
    database_mb: float
    waiting: float
    requests: float
    request_ms: float
    window_full: float

    def __str__(self) -> str:
        """One short line for who watches."""
        memory = " ".join(f"{name} {size:.0f} MB, {self.files[name]} files;" for name, size in self.memory_mb.items())
        return f"{memory} {self.largest_table:.0f} rows, {self.waiting:.0f} waiting, {self.requests:.0f} requests"


def take(parts: Parts) -> Sample:
    """Look at everything once."""
    used = {name: usage(pid) for name, pid in parts.pids.items()}
    served, recorded = _metrics(parts.server_port), _metrics(parts.recorder_port)
    with psycopg.connect(parts.dsn) as connection:
        rows = (connection.execute(LARGEST_TABLE).fetchone() or (0,))[0]
        size = (connection.execute(ON_DISK).fetchone() or (0,))[0]
    return Sample(
        memory_mb={name: each.own_mb for name, each in used.items()},
        files={name: each.files for name, each in used.items()},
        largest_table=float(rows),
        database_mb=float(size or 0) / 1_000_000,
        waiting=recorded.get("mythical_queue_messages", 0),
        requests=served.get("mythical_request_times_count", 0),
        request_ms=served.get("mythical_request_times_sum", 0),
        window_full=_window_full(parts.gateway_page),
    )


def _metrics(port: int) -> dict[str, float]:
    """Sum each metric over its labels."""
    page = send(f"http://127.0.0.1:{port}/metrics", timeout_s=10).text
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0) + sample.value
    return sums


def _window_full(port: int) -> float:
    """Of spans, lines and profiles; metric series are as many as there are, not as many as come."""
    memory = get_json(f"http://127.0.0.1:{port}/api/summary", timeout_s=10)["memory"]
    return min(_full(memory[name]) for name in ("spans", "lines", "profiles"))


def _full(part: Mapping[str, int]) -> float:
    """By entries or by bytes, whichever bound is nearer; full is what evicts."""
    if part["evicted"]:
        return 1.0
    return max(part["held"] / part["limit"], part["bytes"] / part["byte_limit"])
