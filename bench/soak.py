"""Run the default load for half an hour and check that nothing grew: SOAK_MINUTES=30 python -m bench.soak."""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
from prometheus_client.parser import text_string_to_metric_families

from bench.testbed import TestBed
from bench.usage import usage
from common.core.cli import replace_unprintable
from local.errors import LocalError
from tools.query import get_json, send

SAMPLE_EVERY_S = 10.0
# Pools, caches and batches fill in the first waves of the load (155 s each), and the gateway's window, which the table
# shows; what grows after that keeps growing.
WARM_UP = 0.25
SHORTEST_MIN, LONGEST_MIN = 1.0, 7 * 24 * 60.0

# What counts as flat, from the first to the last third after the warm-up. Memory grows in steps of the allocator.
MOST_MEMORY_GROWTH = 0.08
MOST_MORE_FILES = 4.0
MOST_LATENCY_GROWTH = 2.0
# The newest rows that a table keeps here, few enough to be reached in half an hour, and those that the load adds
# between two trims, a minute apart: 160 requests/s, half of them POSTs, to five tables.
ROWS = 1_000
MOST_ROWS = ROWS + 1_200


LARGEST_TABLE = """
    SELECT coalesce(max((xpath('/row/n/text()', query_to_xml(format('SELECT count(*) AS n FROM %I', tablename),
        false, true, '')))[1]::text::int), 0)
    FROM pg_tables WHERE schemaname = 'public'"""
ON_DISK = (
    "SELECT sum(pg_total_relation_size(format('%I', tablename)::regclass)) FROM pg_tables WHERE schemaname = 'public'"
)


@dataclass(frozen=True)
class Parts:
    """What is sampled: processes by name, the ports of server, recorder and the gateway's page, the database."""

    pids: Mapping[str, int]
    server_port: int
    recorder_port: int
    gateway_page: int
    dsn: str


@dataclass(frozen=True)
class Sample:
    """One sample: own memory and open files by process, rows, size on disk, waiting messages, requests so far.

    `window_full` is the fill of the gateway's window, 0 to 1, by the signal with the lowest fill.
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
        """One short line, to watch the run."""
        memory = " ".join(f"{name} {size:.0f} MB, {self.files[name]} files;" for name, size in self.memory_mb.items())
        return f"{memory} {self.largest_table:.0f} rows, {self.waiting:.0f} waiting, {self.requests:.0f} requests"


def main() -> int:
    """Run the load and print a table; the exit status is 1 if something grew, 2 for an invalid setting."""
    replace_unprintable()
    minutes = _minutes(os.environ.get("SOAK_MINUTES", "30"))
    if minutes is None:
        print(f"SOAK_MINUTES must be a number of minutes, {SHORTEST_MIN:g} to {LONGEST_MIN:g}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="mythical-soak-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o711)  # the servers' own users have to reach their folders below it
        try:
            samples = _soak(Path(folder), minutes * 60)
        except LocalError as fault:
            sys.exit(f"soak: {fault}")
    lines, grown = judge(samples)
    print("\n".join([f"{minutes:g} minutes of the default load, {len(samples)} samples", *lines]))
    print("\n".join(f"grew: {each}" for each in grown) or "flat")
    return 1 if grown else 0


def _minutes(text: str) -> float | None:
    try:
        return minutes if SHORTEST_MIN <= (minutes := float(text)) <= LONGEST_MIN else None
    except ValueError:
        return None


def _soak(folder: Path, seconds: float) -> list[Sample]:
    with ExitStack() as running:
        testbed = running.enter_context(TestBed(folder))
        server, port = running.enter_context(
            testbed.service("server", signals=True, MYTHICAL_SERVER_TABLE_ROWS=str(ROWS))
        )
        recorder, recorder_port = running.enter_context(testbed.service("recorder", signals=True))
        asked = {"MYTHICAL_SERVER_HOST_PORT": f"127.0.0.1:{port}", "REQUESTER_START": "0"}
        requester, _ = running.enter_context(testbed.service("requester", signals=True, **asked))
        pids = {"server": server, "requester": requester, "recorder": recorder, "gateway": testbed.gateway_pid}
        parts = Parts(pids, port, recorder_port, testbed.gateway_page, testbed.postgres.dsn)
        samples: list[Sample] = []
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            time.sleep(SAMPLE_EVERY_S)  # the interval of the samples, not a wait for something
            samples.append(take(parts))
            if len(samples) % 6 == 0:
                print(f"{(time.monotonic() - start) / 60:5.1f} min  {samples[-1]}", file=sys.stderr, flush=True)
    return samples


def take(parts: Parts) -> Sample:
    """Take one sample."""
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
    """Of spans, lines and profiles; the number of metric series does not grow with time."""
    memory = get_json(f"http://127.0.0.1:{port}/api/summary", timeout_s=10)["memory"]
    return min(_full(memory[name]) for name in ("spans", "lines", "profiles"))


def _full(part: Mapping[str, int]) -> float:
    """By entries or by bytes, whichever bound is nearer; full means that entries are evicted."""
    if part["evicted"]:
        return 1.0
    return max(part["held"] / part["limit"], part["bytes"] / part["byte_limit"])


def judge(samples: Sequence[Sample]) -> tuple[list[str], list[str]]:
    """Return the lines of the table, and what grew from the first third after the warm-up to the last."""
    steady = samples[int(len(samples) * WARM_UP) :]
    third = max(len(steady) // 3, 1)
    first, last = steady[:third], steady[-third:]
    lines, grown = [f"{'':34}{'first third':>12}{'last third':>12}"], []

    def compare(what: str, before: float, after: float, most: float) -> None:
        lines.append(f"{what:34}{before:12.1f}{after:12.1f}")
        if after > most:
            grown.append(f"{what}: from {before:.1f} to {after:.1f}, at most {most:.1f} is flat")

    for name in samples[0].memory_mb:
        before, after = (statistics.median(each.memory_mb[name] for each in part) for part in (first, last))
        compare(f"{name}: memory, MB", before, after, before * (1 + MOST_MEMORY_GROWTH) + 1)
    filled = [min(each.window_full for each in part) * 100 for part in (first, last)]
    lines.append(f"{'gateway: window full, %':34}{filled[0]:12.0f}{filled[1]:12.0f}")
    for name in samples[0].files:
        before, after = (statistics.median(each.files[name] for each in part) for part in (first, last))
        compare(f"{name}: open files", before, after, before + MOST_MORE_FILES)
    before, after = (max(each.largest_table for each in part) for part in (first, last))
    compare("rows of the largest table", before, after, MOST_ROWS)
    sizes = [max(each.database_mb for each in part) for part in (first, last)]
    lines.append(f"{'tables and indexes on disk, MB':34}{sizes[0]:12.1f}{sizes[1]:12.1f}")
    before, after = (mean_latency_ms(part) for part in (first, last))
    compare("mean time of a request, ms", before, after, before * MOST_LATENCY_GROWTH)
    waiting = [max(each.waiting for each in part) for part in (first, last)]
    lines.append(f"{'most messages waiting':34}{waiting[0]:12.0f}{waiting[1]:12.0f}")
    lines.append(f"{'requests served in all':34}{'':12}{samples[-1].requests:12.0f}")
    return lines, grown


def mean_latency_ms(part: Sequence[Sample]) -> float:
    """Return the mean over all requests between the first and the last sample of a part."""
    requests = part[-1].requests - part[0].requests
    return (part[-1].request_ms - part[0].request_ms) / requests if requests else 0.0


if __name__ == "__main__":
    sys.exit(main())
