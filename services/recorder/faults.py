"""The recorder's injected faults that keep state; those that only add delay are in message_handler.py."""

import ctypes
import sys
import threading

from common.faults import MEMORY_LEAK, STUCK_CONSUMER, Change, Faults

BYTES_PER_MESSAGE = 32 * 1024
# Well below the container's limit: the leak has to be visible without killing the process.
MAX_BYTES = 48 * 1024 * 1024


class MemoryLeak:
    """The fault `memory_leak`: keeps memory for each message, and frees all of it when the fault is off."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._kept: list[bytearray] = []
        self._bytes = 0
        self._lock = threading.Lock()
        faults.on_change(self._changed)

    def keep(self) -> None:
        """Allocate memory for one message if the fault is on."""
        if not (strength := self._faults.strength(MEMORY_LEAK)):
            return
        size = round(BYTES_PER_MESSAGE * strength)
        with self._lock:
            if self._bytes + size <= MAX_BYTES:
                self._kept.append(bytearray(size))
                self._bytes += size

    def _changed(self, change: Change) -> None:
        if change.fault is MEMORY_LEAK and not change.strength:
            with self._lock:
                self._kept.clear()
                self._bytes = 0
            _release_freed_memory()


def _release_freed_memory() -> None:
    """Make the C library return freed memory to the system; otherwise the process would stay as large as it was."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


class StuckConsumer:
    """The fault `stuck_consumer`: blocks threads that process messages, as a deadlock would, until the fault is off.

    Their messages stay unacknowledged. A recorder that stops meanwhile returns them to the queue, as always.
    """

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._off = threading.Event()
        faults.on_change(self._changed)

    def hold(self) -> None:
        """Return at once, or, if the fault triggers, when it is off."""
        if self._faults.should_trigger(STUCK_CONSUMER):
            self._off.wait()

    def _changed(self, change: Change) -> None:
        if change.fault is STUCK_CONSUMER:
            if change.strength:
                self._off.clear()
            else:
                self._off.set()
