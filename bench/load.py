"""A cheap load generator: the CRUD cycle over persistent connections, in its own process.

It implements only the HTTP/1.1 that the suite's server needs: responses have a Content-Length or no body.
"""

import asyncio
import itertools
import json
import multiprocessing
import time
from collections import Counter
from dataclasses import dataclass

BEASTS = ("unicorn", "manticore", "illithid", "owlbear", "beholder")


@dataclass(frozen=True)
class LoadResult:
    """The result of a load: duration in seconds, responses by status, and latencies (seconds)."""

    seconds: float
    statuses: dict[int, int]
    latencies: list[float]

    @property
    def requests(self) -> int:
        """The number of responses."""
        return sum(self.statuses.values())

    @property
    def rps(self) -> float:
        """Responses per second."""
        return self.requests / self.seconds

    def quantile(self, share: float) -> float:
        """Return the latency in milliseconds that this share of the requests stayed below."""
        ordered = sorted(self.latencies)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] * 1000 if ordered else 0.0


def crud(port: int, *, connections: int, seconds: float) -> LoadResult:
    """Run POST, GET, DELETE cycles on loopback for `seconds`, each connection with different names."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(port, connections, seconds, sender), daemon=True)
    process.start()
    sender.close()  # our end; while it is open, recv() would wait forever for a generator that died
    try:
        load: LoadResult = receiver.recv()
    finally:
        process.join()
    return load


def _run(port: int, connections: int, seconds: float, sender) -> None:  # type: ignore[no-untyped-def]
    sender.send(asyncio.run(_cycles(port, connections, seconds)))


async def _cycles(port: int, connections: int, seconds: float) -> LoadResult:
    statuses: Counter[int] = Counter()
    latencies: list[float] = []
    start = time.perf_counter()
    await asyncio.gather(
        *(_connection(port, number, start + seconds, statuses, latencies) for number in range(connections))
    )
    return LoadResult(time.perf_counter() - start, dict(statuses), latencies)


async def _connection(port: int, number: int, until: float, statuses: Counter[int], latencies: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for turn in itertools.count():
        beast = BEASTS[turn % len(BEASTS)]
        body = json.dumps({"name": f"bench_{number}_{turn}"}).encode()
        for method, payload in (("POST", body), ("GET", b""), ("DELETE", body)):
            began = time.perf_counter()
            writer.write(_request(method, beast, payload))
            statuses[await _answer(reader)] += 1
            latencies.append(time.perf_counter() - began)
        if time.perf_counter() >= until:
            break
    writer.close()
    await writer.wait_closed()


def _request(method: str, beast: str, body: bytes) -> bytes:
    head = f"{method} /{beast} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
    kind = "Content-Type: application/json\r\n" if body else ""
    return f"{head}{kind}\r\n".encode() + body


async def _answer(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    if length:
        await reader.readexactly(length)
    return int(head[9:12])
