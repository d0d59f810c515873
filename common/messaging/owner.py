"""The one thread that may touch pika's objects."""

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Protocol

from pika.adapters.select_connection import IOLoop  # type: ignore[import-untyped]  # pika ships no py.typed

log = logging.getLogger(__name__)

ABORT_S = 0.5

Work = Callable[[], None]


class Closable(Protocol):
    """Something on the owner's loop that must end before the loop does."""

    def close(self, on_closed: Work) -> None:
        """Begin to end; call `on_closed` when nothing is left."""

    def abort(self) -> None:
        """Hasten the end that close() has begun."""

    def drop(self, why: str) -> None:
        """Start afresh, because the state can no longer be trusted."""


class Owner:
    """A daemon thread with pika's event loop. pika is not thread-safe: a channel shared by threads dies at once."""

    def __init__(self, name: str) -> None:
        self._loop = IOLoop()
        self._parts: list[Closable] = []
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def loop(self) -> IOLoop:
        """pika's event loop, for the connections that live on it."""
        return self._loop

    def start(self, *parts: Closable) -> None:
        """Run the loop; `parts` are ended by stop() before it."""
        self._parts.extend(parts)
        self._thread.start()

    def call(self, work: Work) -> None:
        """Have the owner do `work` soon; from any thread. After stop() nothing happens."""
        self._loop.add_callback_threadsafe(partial(self._guard, work))

    def later(self, delay_s: float, work: Work) -> object:
        """Have `work` done after `delay_s` seconds; only from the owner's thread. Returns a handle for cancel()."""
        return self._loop.call_later(delay_s, partial(self._guard, work))

    def cancel(self, handle: object) -> None:
        """Forget what later() promised; only from the owner's thread."""
        self._loop.remove_timeout(handle)

    def stop(self, timeout_s: float) -> None:
        """End the parts in good order, then the thread; after `timeout_s` seconds without waiting for the broker."""
        self.call(self._close_parts)
        self._thread.join(timeout_s)
        for last_resort in (self._abort_parts, self._end):
            if self._thread.is_alive():
                self.call(last_resort)
                self._thread.join(ABORT_S)

    def _close_parts(self) -> None:
        waiting = len(self._parts)

        def one_less() -> None:
            nonlocal waiting
            waiting -= 1
            if waiting == 0:
                self._end()

        for part in self._parts:
            part.close(one_less)

    def _abort_parts(self) -> None:
        for part in self._parts:
            part.abort()

    def _end(self) -> None:
        self._ended = True
        self._loop.stop()

    def _guard(self, work: Work) -> None:
        """An exception in a callback must not end the thread: without it nothing would be sent or received any more."""
        try:
            work()
        except Exception:
            log.exception("messaging callback failed", extra={"fields": {"thread": self._thread.name}})
            for part in self._parts:
                part.drop("internal error")

    def _run(self) -> None:
        while not self._ended:
            try:
                self._loop.start()
            except Exception:
                log.exception("messaging loop failed", extra={"fields": {"thread": self._thread.name}})
        self._loop.close()
