"""The soak: the default load for half an hour, and whether anything grew: SOAK_MINUTES=30 python -m bench.soak."""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.sample import Parts, Sample, take
from bench.stage import Stage
from local.errors import LocalError

SAMPLE_EVERY_S = 10.0
# Pools, caches and batches fill in the first waves of the load (155 s each), and the gateway's window, which the table
# shows; what grows after that goes on growing.
WARM_UP = 0.25
SHORTEST_MIN, LONGEST_MIN = 1.0, 7 * 24 * 60.0

# What counts as flat, from the first to the last third after the warm-up. Memory moves in steps of the allocator.
MOST_MEMORY_GROWTH = 0.08
MOST_MORE_FILES = 4.0
MOST_LATENCY_GROWTH = 2.0
# The newest rows that a table keeps here, few enough to be reached in half an hour, and what the load adds between two
# trims, a minute apart: 160 requests/s, half of them POSTs, to five tables.
ROWS = 1_000
MOST_ROWS = ROWS + 1_200


def main() -> int:
    """Run the load, print a table; the exit status is 1 if something grew that should not have, 2 for a bad setting."""
    minutes = _minutes(os.environ.get("SOAK_MINUTES", "30"))
    if minutes is None:
        print(f"settings: SOAK_MINUTES is a number of minutes, {SHORTEST_MIN:g} to {LONGEST_MIN:g}", file=sys.stderr)
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
        stage = running.enter_context(Stage(folder))
        server, port = running.enter_context(
            stage.service("server", signals=True, MYTHICAL_SERVER_TABLE_ROWS=str(ROWS))
        )
        recorder, recorder_port = running.enter_context(stage.service("recorder", signals=True))
        asked = {"MYTHICAL_SERVER_HOST_PORT": f"127.0.0.1:{port}", "REQUESTER_START": "0"}
        requester, _ = running.enter_context(stage.service("requester", signals=True, **asked))
        pids = {"server": server, "requester": requester, "recorder": recorder, "gateway": stage.gateway_pid}
        parts = Parts(pids, port, recorder_port, stage.gateway_page, stage.postgres.dsn)
        samples: list[Sample] = []
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            time.sleep(SAMPLE_EVERY_S)  # a beat of measurement, not a wait for something
            samples.append(take(parts))
            if len(samples) % 6 == 0:
                print(f"{(time.monotonic() - start) / 60:5.1f} min  {samples[-1]}", file=sys.stderr, flush=True)
    return samples


def judge(samples: Sequence[Sample]) -> tuple[list[str], list[str]]:
    """Give the lines of the table, and what is not flat, from the first third after the warm-up to the last."""
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
    """Give the mean over all requests between the first and the last sample of a part."""
    requests = part[-1].requests - part[0].requests
    return (part[-1].request_ms - part[0].request_ms) / requests if requests else 0.0


if __name__ == "__main__":
    sys.exit(main())
