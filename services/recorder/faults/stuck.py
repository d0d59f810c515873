"""The fault `stuck_consumer`: work on a message begins and does not end, as in a deadlock."""

import threading

from common.faults import STUCK_CONSUMER, Faults
from common.faults.state import Change


class Stuck:
    """Holds the threads of messages while the fault is on, and lets all of them go on when it is off.

    The broker counts their messages as in hand. A recorder that stops meanwhile gives them back, as always.
    """

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._off = threading.Event()
        faults.on_change(self._changed)

    def hold(self) -> None:
        """Return at once, or, for a message that the fault triggers on, when the fault is off."""
        if self._faults.should_trigger(STUCK_CONSUMER):
            self._off.wait()

    def _changed(self, change: Change) -> None:
        if change.fault is STUCK_CONSUMER:
            if change.strength:
                self._off.clear()
            else:
                self._off.set()
