"""A fixed number of threads that work on what they are given."""

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class Workers(Generic[T]):
    """`count` daemon threads that call `work` on each item; `work` must not raise.

    Daemon threads of our own, because the interpreter waits at exit for those of concurrent.futures: one handler that
    hangs would keep the process from ending.
    """

    def __init__(self, count: int, work: Callable[[T], None], name: str) -> None:
        self._work = work
        self._items: SimpleQueue[T | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._run, name=f"{name}-{n}", daemon=True) for n in range(count)]

    def start(self) -> None:
        """Begin to work."""
        for thread in self._threads:
            thread.start()

    def give(self, item: T) -> None:
        """Have an item worked on by the next free thread. What bounds the queue is the consumer's prefetch."""
        self._items.put(item)

    def stop(self, timeout_s: float) -> None:
        """Let the threads end after the items given so far, waiting at most `timeout_s` seconds."""
        deadline = time.monotonic() + timeout_s
        for _ in self._threads:
            self._items.put(None)
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))

    def _run(self) -> None:
        while (item := self._items.get()) is not None:
            self._work(item)
