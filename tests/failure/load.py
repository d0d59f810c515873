"""A load generator in a separate process, with a request rate that does not depend on the server (an open model).

Unlike callers that wait for each response before they send the next request, it does not slow down with the server:
latency is measured from the moment at which a request was due.
"""

import asyncio
import multiprocessing
import time
from collections import Counter
from dataclasses import dataclass, field

BEASTS = ("unicorn", "manticore", "illithid", "owlbear", "beholder")
RESPONSE_S = 20.0


@dataclass
class Offered:
    """The results: number of requests by status (0 is no response), and latencies in seconds by status."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: dict[int, list[float]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    most_connections: int = 0
    unsent: int = 0

    def quantile_ms(self, status: int, share: float) -> float:
        """Return the latency in milliseconds at the quantile `share` (0 to 1) of the responses with this status."""
        ordered = sorted(self.latencies.get(status, []))
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] * 1000 if ordered else 0.0


def offer(port: int, *, rate: float, seconds: float, connections: int = 400) -> Offered:
    """Send `rate` GETs per second for `seconds`, over at most `connections` persistent connections."""
    with multiprocessing.get_context("spawn").Pool(1) as process:
        return process.apply(_offer, (port, rate, seconds, connections))


def _offer(port: int, rate: float, seconds: float, connections: int) -> Offered:
    return asyncio.run(_Generator(port, rate, seconds, connections).run())


class _Generator:
    def __init__(self, port: int, rate: float, seconds: float, connections: int) -> None:
        self._port = port
        self._rate = rate
        self._seconds = seconds
        self._max_connections = connections
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._open = 0
        self._result = Offered()

    async def run(self) -> Offered:
        start = time.perf_counter()
        in_flight: set[asyncio.Task[None]] = set()
        number = 0
        while (now := time.perf_counter() - start) < self._seconds:
            due = int(now * self._rate)
            for each in range(number, due):
                if len(in_flight) >= self._max_connections:
                    self._result.unsent += 1
                    continue
                task = asyncio.create_task(self._send(each, start + each / self._rate))
                in_flight.add(task)
                task.add_done_callback(in_flight.discard)
            number = due
            await asyncio.sleep(0.002)
        await asyncio.gather(*in_flight)
        self._result.seconds = time.perf_counter() - start
        return self._result

    async def _send(self, number: int, due: float) -> None:
        status = 0
        try:
            status = await asyncio.wait_for(self._exchange(number), RESPONSE_S)
        except (OSError, EOFError, TimeoutError) as error:
            self._result.errors[type(error).__name__] += 1
        self._result.statuses[status] += 1
        self._result.latencies.setdefault(status, []).append(time.perf_counter() - due)

    async def _exchange(self, number: int) -> int:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                break
            self._open -= 1  # the server closed it after half a minute without a request
            writer.close()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            self._open += 1
            self._result.most_connections = max(self._result.most_connections, self._open)
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
