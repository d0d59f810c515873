"""Requests at a rate that does not ask how the server is: a generator in a process of its own, and what it saw.

Unlike callers that wait for each answer before they ask again, it does not slow down with the server: latency counts
from the moment at which a request was due.
"""

import asyncio
import multiprocessing
import time
from collections import Counter
from dataclasses import dataclass, field

BEASTS = ("unicorn", "manticore", "illithid", "owlbear", "beholder")
ANSWER_S = 20.0


@dataclass
class Offered:
    """What became of the requests: how many by status (0 is no answer), and latencies in seconds by status."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: dict[int, list[float]] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    most_connections: int = 0
    unsent: int = 0

    def quantile_ms(self, status: int, share: float) -> float:
        """The latency, in milliseconds, that this share of the answers with that status stayed below."""
        ordered = sorted(self.latencies.get(status, []))
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] * 1000 if ordered else 0.0


def offer(port: int, *, rate: float, seconds: float, connections: int = 400) -> Offered:
    """Make `rate` GETs per second for `seconds`, over at most that many kept connections, and return at the end."""
    with multiprocessing.get_context("spawn").Pool(1) as process:
        return process.apply(_offer, (port, rate, seconds, connections))


def _offer(port: int, rate: float, seconds: float, connections: int) -> Offered:
    return asyncio.run(_Generator(port, rate, seconds, connections).run())


class _Generator:
    def __init__(self, port: int, rate: float, seconds: float, connections: int) -> None:
        self._port = port
        self._rate = rate
        self._seconds = seconds
        self._most = connections
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._open = 0
        self._seen = Offered()

    async def run(self) -> Offered:
        start = time.perf_counter()
        asking: set[asyncio.Task[None]] = set()
        number = 0
        while (now := time.perf_counter() - start) < self._seconds:
            due = int(now * self._rate)
            for each in range(number, due):
                if len(asking) >= self._most:
                    self._seen.unsent += 1
                    continue
                task = asyncio.create_task(self._ask(each, start + each / self._rate))
                asking.add(task)
                task.add_done_callback(asking.discard)
            number = due
            await asyncio.sleep(0.002)
        await asyncio.gather(*asking)
        self._seen.seconds = time.perf_counter() - start
        return self._seen

    async def _ask(self, number: int, due: float) -> None:
        status = 0
        try:
            status = await asyncio.wait_for(self._exchange(number), ANSWER_S)
        except (OSError, EOFError, TimeoutError) as fault:
            self._seen.faults[type(fault).__name__] += 1
        self._seen.statuses[status] += 1
        self._seen.latencies.setdefault(status, []).append(time.perf_counter() - due)

    async def _exchange(self, number: int) -> int:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                break
            self._open -= 1  # the server hung up on it: idle for half a minute
            writer.close()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            self._open += 1
            self._seen.most_connections = max(self._seen.most_connections, self._open)
        try:
            writer.write(f"GET /{BEASTS[number % 5]}?limit=20 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
        except BaseException:
            self._open -= 1
            writer.close()
            raise
        self._idle.append((reader, writer))
        return int(head[9:12])
