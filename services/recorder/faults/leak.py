"""The fault `memory_leak`: something is kept of each message, and never looked at again."""

import ctypes
import sys
import threading

from common.faults import MEMORY_LEAK, Faults
from common.faults.state import Change

KEPT_BYTES = 32 * 1024
# Well below what the container may hold: the leak is there to be seen, not to end the process.
MOST_BYTES = 48 * 1024 * 1024


class Leak:
    """Keeps memory while the fault is on, and gives it all back when it is off."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._kept: list[bytearray] = []
        self._bytes = 0
        self._lock = threading.Lock()
        faults.on_change(self._changed)

    @property
    def kept_bytes(self) -> int:
        """How much is kept."""
        return self._bytes

    def keep(self) -> None:
        """Keep some memory for one message."""
        if not (strength := self._faults.strength(MEMORY_LEAK)):
            return
        size = round(KEPT_BYTES * strength)
        with self._lock:
            if self._bytes + size <= MOST_BYTES:
                self._kept.append(bytearray(size))
                self._bytes += size

    def _changed(self, change: Change) -> None:
        if change.fault is MEMORY_LEAK and not change.strength:
            with self._lock:
                self._kept.clear()
                self._bytes = 0
            _give_back()


def _give_back() -> None:
    """Have the C library return freed memory to the system; without it, the process would stay as large as it was."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
