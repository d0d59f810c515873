"""Work that a fault does by itself, beside the requests: while it is on, and to clear up after it."""

import logging
import threading
from collections.abc import Callable

from common.faults.registry import Fault
from common.faults.state import Change, Faults

log = logging.getLogger(__name__)

AGAIN_S = 1.0


class BackgroundFault:
    """Calls `step` again and again while a fault is on, then `undo` until that succeeds; without a thread while off.

    `step` is given the strength and returns how many seconds to pause. Both are called on a thread of their own, and
    may raise: they are called again a second later.
    """

    def __init__(
        self, faults: Faults, fault: Fault, step: Callable[[float], float], undo: Callable[[], None] = lambda: None
    ) -> None:
        self._faults = faults
        self._fault = fault
        self._step = step
        self._undo = undo
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._closing = False
        faults.on_change(self._changed)

    def start(self) -> None:
        """Begin, if the fault is on."""
        with self._lock:
            if self._on and self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._fault.name, daemon=True)
                self._thread.start()
        self._wake.set()

    def close(self, timeout_s: float = 1.0) -> None:
        """Stop and clear up, for at most `timeout_s` seconds; may be called again, to wait longer."""
        self._closing = True
        self._wake.set()
        if thread := self._thread:
            thread.join(timeout_s)

    @property
    def _on(self) -> bool:
        return not self._closing and self._faults.strength(self._fault) > 0

    def _changed(self, change: Change) -> None:
        if change.fault is self._fault:
            self.start()

    def _run(self) -> None:
        while True:
            if self._on:
                self._wake.wait(self._try_step())
                self._wake.clear()
            elif self._try_undo() or self._closing:
                with self._lock:
                    if not self._on:
                        self._thread = None
                        return
            else:
                self._wake.wait(AGAIN_S)
                self._wake.clear()

    def _try_step(self) -> float:
        try:
            return self._step(self._faults.strength(self._fault))
        except Exception as error:  # whatever it is, the fault must end when it is told to
            self._tell(error)
            return AGAIN_S

    def _try_undo(self) -> bool:
        try:
            self._undo()
        except Exception as error:  # as above
            self._tell(error)
            return False
        return True

    def _tell(self, error: Exception) -> None:
        name = self._faults.public_name(self._fault)
        log.warning("injected fault failed", extra={"fields": {"fault": name, "error": str(error)}})
