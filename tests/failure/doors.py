"""A collector's door that a test can shut: a port that hands on to the gateway, or fails in one of four ways."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Literal, Self

from local.ports import LOOPBACK, free_port

Fault = Literal["closed", "silent", "refusing", "slow"]

SLOW_S = 5.0  # how late each piece of an answer is handed on
PIECE = 65_536

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Door:
    """One port before `upstream`; healthy until `fail`, and again after `heal`.

    `closed`: nobody listens. `silent`: connections are taken, nothing is read or answered. `refusing`: handed on to the
    port `refuser`, which answers with an error. `slow`: handed on at once, each piece of an answer 5 s late.
    A change of mode cuts what is connected, as a collector's restart would.
    """

    def __init__(self, upstream: int, refuser: int) -> None:
        self.port = free_port()
        self._upstream = upstream
        self._refuser = refuser
        self._fault: Fault | None = None
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"door-{self.port}", daemon=True)

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
        """Fail in that way from now on."""
        self._do(self._change(fault))

    def heal(self) -> None:
        """Hand everything on again."""
        self._do(self._change(None))

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _change(self, fault: Fault | None) -> None:
        await self._shut()
        self._fault = fault
        if fault != "closed":
            self._server = await asyncio.start_server(self._take, LOOPBACK, self.port)

    async def _shut(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
        for writer in self._open:
            writer.transport.abort()

    async def _end(self) -> None:
        await self._shut()
        # A connection that was taken a moment ago becomes a task, and one of those open, only now.
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(tasks, timeout=0.1)
            await self._shut()
        await asyncio.sleep(0)  # what was aborted closes its socket in the next round

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        fault = self._fault
        try:
            if fault == "silent":
                writer.transport.pause_reading()  # type: ignore[attr-defined]  # as a stopped process: it reads nothing
                await writer.wait_closed()
            else:
                await self._hand_on(reader, writer, fault)
        except OSError:
            pass  # one side hung up, or was cut
        finally:
            self._open.discard(writer)
            writer.transport.abort()

    async def _hand_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fault: Fault | None) -> None:
        port = self._refuser if fault == "refusing" else self._upstream
        there, on = await asyncio.open_connection(LOOPBACK, port)
        try:
            late_s = SLOW_S if fault == "slow" else 0.0
            await asyncio.gather(_pass(reader, on, 0.0), _pass(there, writer, late_s))
        finally:
            on.transport.abort()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, late_s: float) -> None:
    """Hand on what comes until its end, each piece that much later, and then hang up."""
    while piece := await reader.read(PIECE):
        if late_s:
            await asyncio.sleep(late_s)
        writer.write(piece)
        await writer.drain()
    with suppress(OSError):
        writer.close()
