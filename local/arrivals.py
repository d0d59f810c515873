"""What the demo knows of the signals that arrived so far, asked of the gateway once a second."""

import time

from local.summary import Summary, fetch

ASK_EVERY_S = 1.0


class Arrivals:
    """The latest summary, how long the run is, and how soon its first signals came (seconds)."""

    def __init__(self, page: str) -> None:
        self.summary = Summary()
        self.first_after_s: float | None = None
        self._page = page
        self._begun = time.monotonic()
        self._ask_next = self._begun

    @property
    def running_s(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._begun

    def ask(self) -> bool:
        """Ask the gateway if a second has gone by since the last time; return whether it has."""
        if time.monotonic() < self._ask_next:
            return False
        self._ask_next = time.monotonic() + ASK_EVERY_S
        self.summary = fetch(self._page) or self.summary
        if self.summary.cells and self.first_after_s is None:
            self.first_after_s = self.running_s
        return True
