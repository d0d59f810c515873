"""A proxy before a port of the gateway that a test can make fail in one of four ways."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Literal, Self

from local.ports import LOOPBACK, free_port

Fault = Literal["closed", "silent", "rejecting", "slow"]

SLOW_S = 5.0  # delay of each piece of a response
PIECE = 65_536

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class FaultyProxy:
    """A proxy for the port `upstream`; healthy until `fail`, and again after `heal`.

    `closed`: the port isn't open. `silent`: connections are accepted, nothing is read or answered. `rejecting`: data is
    forwarded to the port `rejecting_port`, which answers with an error. `slow`: requests are forwarded at once, each
    piece of a response 5 s late. A change of mode closes all connections, as a restart of the collector would.
    """

    def __init__(self, upstream: int, rejecting_port: int) -> None:
        self.port = free_port()
        self._upstream = upstream
        self._rejecting_port = rejecting_port
        self._fault: Fault | None = None
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{self.port}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.heal()
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def fail(self, fault: Fault) -> None:
        """Start to fail in the given way."""
        self._do(self._change(fault))

    def heal(self) -> None:
        """Forward everything again."""
        self._do(self._change(None))

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _change(self, fault: Fault | None) -> None:
        await self._shut()
        self._fault = fault
        if fault != "closed":
            self._server = await asyncio.start_server(self._accept, LOOPBACK, self.port)

    async def _shut(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
        for writer in self._open:
            writer.transport.abort()

    async def _end(self) -> None:
        await self._shut()
        # A connection that was just accepted becomes a task, and is added to the open ones, only now.
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(tasks, timeout=0.1)
            await self._shut()
        await asyncio.sleep(0)  # an aborted transport closes its socket in the next iteration of the loop

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        fault = self._fault
        try:
            if fault == "silent":
                writer.transport.pause_reading()  # type: ignore[attr-defined]  # a stopped process reads nothing
                await writer.wait_closed()
            else:
                await self._forward(reader, writer, fault)
        except OSError:
            pass  # one side closed the connection or was cut off
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault | None) -> None:
        port = self._rejecting_port if fault == "rejecting" else self._upstream
        from_port, to_port = await asyncio.open_connection(LOOPBACK, port)
        try:
            delay_s = SLOW_S if fault == "slow" else 0.0
            await asyncio.gather(_copy(reader, to_port, 0.0), _copy(from_port, writer, delay_s))
        finally:
            to_port.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    """Copy until the end of the stream, with this delay before each piece, and then close the connection."""
    while piece := await reader.read(PIECE):
        if delay_s:
            await asyncio.sleep(delay_s)
        writer.write(piece)
        await writer.drain()
    with suppress(OSError):
        writer.close()
