"""Faults that do work of their own in a thread, apart from requests, and clean up afterwards."""

import logging
import threading
from collections.abc import Callable

from common.faults import Change, Fault, Faults

log = logging.getLogger(__name__)

RETRY_S = 1.0


class BackgroundFault:
    """Calls `step` repeatedly while a fault is on, then `undo` until it succeeds; there is no thread while it is off.

    `step` receives the strength and returns the seconds to pause. If either raises, it is called again after a second.
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
        self._failure = ""
        faults.on_change(self._changed)

    def start(self) -> None:
        """Start the thread, if the fault is on."""
        with self._lock:
            if self._on and self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._fault.name, daemon=True)
                self._thread.start()
        self._wake.set()

    def close(self, timeout_s: float = 1.0) -> None:
        """Stop and clean up, waiting at most `timeout_s` seconds; call it again to wait longer."""
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
                self._wake.wait(RETRY_S)
                self._wake.clear()

    def _try_step(self) -> float:
        try:
            pause_s = self._step(self._faults.strength(self._fault))
            self._failure = ""
            return pause_s
        except Exception as error:  # of any kind: the thread must survive to clean up later
            self._log(error)
            return RETRY_S

    def _try_undo(self) -> bool:
        try:
            self._undo()
            self._failure = ""
        except Exception as error:  # as above
            self._log(error)
            return False
        return True

    def _log(self, error: Exception) -> None:
        """Log a failure that differs from that of the last attempt: in an outage they are all the same."""
        if str(error) == self._failure:
            return
        self._failure = str(error)
        name = self._faults.public_name(self._fault)
        log.warning("injected fault failed", extra={"fields": {"fault": name, "error": str(error)}})
