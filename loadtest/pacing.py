"""Locust's side of a shape: asks each second how many users there should be, and where it breaks."""

import logging
from collections import deque

from locust import LoadTestShape

from loadtest.load import Load
from loadtest.shapes import Course, Lines, crossed, users_at

WINDOW = 10  # seconds that are looked back upon for a line that is crossed, as Locust does for its current p95
ENOUGH = 20  # requests in the window; a share of fewer says nothing

log = logging.getLogger(__name__)


class NamedShape(LoadTestShape):
    """The shape that the settings name."""

    abstract = True

    def __init__(self) -> None:
        super().__init__()
        self._seen: deque[tuple[int, int]] = deque(maxlen=WINDOW)

    def reset_time(self) -> None:
        """Begin a run, which need not be the first: the page can start one after another."""
        super().reset_time()
        self._seen.clear()

    def tick(self) -> tuple[int, float] | None:
        """Give users and how many of them start per second; None ends the run."""
        load: Load = self.runner.environment.load
        settings = load.settings
        users = users_at(
            settings.shape, self.get_run_time(), Course(settings.users, settings.rate, settings.shape_time_s)
        )
        if settings.shape == "break":
            where = f"{self.get_current_user_count()} users, {self.get_run_time():.0f} s after the start"
            if broke := self._crossed(load):
                self._tell(load, f"broke at {where}: {broke}")
                return None
            if users is None:
                self._tell(load, f"did not break up to {where}")
        # A spike is one only if its users come at once; the rate is for the shapes that say nothing of it.
        return None if users is None else (users, max(settings.rate, float(settings.users)))

    def _tell(self, load: Load, outcome: str) -> None:
        """Keep it for the report, and log it: a run with a page has no report, but shows its log."""
        load.broke = outcome
        log.warning("%s", outcome)

    def _crossed(self, load: Load) -> str | None:
        tally, settings = load.tally, load.settings
        self._seen.append((tally.requests - tally.planted, tally.errors))
        requests, errors = (now - then for now, then in zip(self._seen[-1], self._seen[0], strict=True))
        if requests < ENOUGH:
            return None
        p95_ms = self.runner.stats.total.get_current_response_time_percentile(0.95) or 0
        return crossed(p95_ms, errors / requests, Lines(settings.break_p95_ms, settings.break_error_share))
