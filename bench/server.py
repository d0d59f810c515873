"""What a request costs the server on each rung of INSTRUMENTATION: in the server, on the wire, and in the backends."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from secrets import token_hex
from statistics import median
from typing import Any

from bench.load import crud
from bench.report import Measurement
from bench.testbed import TestBed
from bench.usage import usage
from local.ports import LOOPBACK
from tools.query import get_json

CONNECTIONS = 16
WARM_UP_S = 2.0

# What the JSON line calls each rung, and what the table calls it. `ebpf` costs the service what `off` does.
RUNGS = {"off": "signals off", "zero_code": "zero-code", "stock": "plain SDK", "on": "fast layer"}
SETTING = {"on": "fast", "zero_code": "zero-code"}
# The fast layer with one generation of the semantic conventions; by default it sends both. Of these, two costs matter.
GENERATIONS = {"on_old": "fast layer, old names", "on_new": "fast layer, new names"}
CONVENTIONS = {"on_old": "none", "on_new": "http,database"}
OF_NAMES = ("cpu_ms", "bytes")


@dataclass(frozen=True)
class Cost:
    """What a run of the CRUD cycle costs: CPU and latencies in ms, start in s, memory (PSS) in MB, requests per second.

    Of a request, bytes to the collector with their framing, and spans; of the run, series. These three are from a
    separate run, because counting takes CPU.
    """

    cpu_ms: float
    rps: float
    p50_ms: float
    p99_ms: float
    start_s: float
    rss_mb: float
    bytes: float
    spans: float
    series: float


MEANING = {
    "cpu_ms": ("ms", 3, "CPU per request"),
    "rps": ("/s", 0, "requests/s"),
    "p50_ms": ("ms", 1, "p50 latency"),
    "p99_ms": ("ms", 1, "p99 latency"),
    "start_s": ("s", 2, "start until ready"),
    "rss_mb": ("MB", 1, "memory under this load"),
    "bytes": ("By", 0, "bytes sent per request"),
    "spans": ("", 2, "spans per request"),
    "series": ("", 0, "metric series"),
}


def server_cost(testbed: TestBed, *, rounds: int, seconds: float) -> list[Measurement]:
    """Measure the rungs in turns, so that a machine that slows down slows all; return medians and ratios."""
    variants = RUNGS | GENERATIONS
    runs: dict[str, list[Cost]] = {variant: [] for variant in variants}
    for _ in range(rounds):
        for variant in variants:
            runs[variant].append(_measure(testbed, variant, seconds))
    ratios = [
        Measurement(
            f"server_cpu_ratio{'' if rung == 'on' else f'_{rung}'}",
            round(median(a.cpu_ms / b.cpu_ms for a, b in zip(runs[rung], runs["off"], strict=True)), 2),
            "",
            f"server: CPU {name} ÷ off, median of rounds",
        )
        for rung, name in RUNGS.items()
        if rung != "off"
    ]
    return ratios + [
        Measurement(
            f"server_{what.name}_{rung}",
            round(median(getattr(cost, what.name) for cost in runs[rung]), digits),
            unit,
            f"server: {meaning}, {name}",
        )
        for what in fields(Cost)
        for unit, digits, meaning in [MEANING[what.name]]
        for rung, name in variants.items()
        if rung in RUNGS or what.name in OF_NAMES
    ]


def _measure(testbed: TestBed, variant: str, seconds: float) -> Cost:
    rung = variant.partition("_")[0] if variant in GENERATIONS else variant
    env = {"ALWAYS_SUCCEED": "true", "INSTRUMENTATION": SETTING.get(rung, rung)}
    env["OTEL_SEMCONV_STABILITY_OPT_IN"] = CONVENTIONS.get(variant, "")
    signals = rung != "off"
    launched = time.monotonic()
    with testbed.service("server", signals=signals, **env) as (pid, port):
        start_s = time.monotonic() - launched
        crud(port, connections=CONNECTIONS, seconds=WARM_UP_S)
        before = usage(pid).cpu_s
        load = crud(port, connections=CONNECTIONS, seconds=seconds)
        used = usage(pid)
    namespace = f"bench-{token_hex(4)}"
    with _counted(testbed.ports) as (counting, received):
        with testbed.service("server", signals=signals, NAMESPACE=namespace, **env, **counting) as (_, port):
            requests = crud(port, connections=1, seconds=WARM_UP_S).requests
        bytes_sent = sum(received)
    spans, series = (
        _of(get_json(f"http://{LOOPBACK}:{testbed.gateway_page}/api/{what}?limit=20000", timeout_s=60), namespace)
        for what in ("spans", "metrics")
    )
    return Cost(
        cpu_ms=(used.cpu_s - before) / load.requests * 1000,
        rps=load.rps,
        p50_ms=load.quantile(0.5),
        p99_ms=load.quantile(0.99),
        start_s=start_s,
        rss_mb=used.pss_mb,
        bytes=bytes_sent / requests,
        spans=len(spans) / requests,
        series=sum(len(metric["points"]) for metric in series),
    )


def _of(found: list[dict[str, Any]], namespace: str) -> list[dict[str, Any]]:
    return [each for each in found if each["resource"].get("service.namespace") == namespace]


@contextmanager
def _counted(ports: dict[str, int]) -> Iterator[tuple[dict[str, str], list[int]]]:
    """Yield settings that lead a service to the gateway through ports that count, and the list of the lengths."""
    received: list[int] = []
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="counting")
    thread.start()

    def forward(target: int) -> int:
        async def connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            answers, requests = await asyncio.open_connection(LOOPBACK, target)
            await asyncio.gather(_pass(reader, requests, received), _pass(answers, writer, []))

        server = asyncio.run_coroutine_threadsafe(asyncio.start_server(connect, LOOPBACK, 0), loop).result()
        return int(server.sockets[0].getsockname()[1])

    loki = f"http://{LOOPBACK}:{forward(ports['loki'])}/loki/api/v1/push"
    try:
        yield (
            {
                "TRACING_COLLECTOR_PORT": str(forward(ports["otlp_grpc"])),
                "LOGS_TARGET": loki,
                "PROFILE_COLLECTOR_PORT": str(forward(ports["pyroscope"])),
            },
            received,
        )
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, received: list[int]) -> None:
    while data := await reader.read(65_536):
        received.append(len(data))
        writer.write(data)
        await writer.drain()
    writer.close()
