"""The loops: threads that make one round after another, at the plan's pace."""

import logging
import threading
import time

from services.requester.request_round import RequestRound
from services.requester.traffic_plan import TrafficPlan

log = logging.getLogger(__name__)


class WorkerThreads:
    """Runs `count` loops; the first starts after `start_s` seconds, each next one a second later."""

    def __init__(self, plan: TrafficPlan, request_round: RequestRound, *, count: int, start_s: float) -> None:
        self._plan = plan
        self._round = request_round
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(start_s + number,), name=f"loop-{number}", daemon=True)
            for number in range(count)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def close(self, timeout_s: float = 1.0) -> None:
        """Stop after the rounds that are under way; those that take longer than timeout_s seconds are given up."""
        self._stop.set()
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.ident:
                thread.join(max(0.0, deadline - time.monotonic()))

    def _run(self, start_s: float) -> None:
        self._stop.wait(start_s)
        while not self._stop.is_set():
            planned = self._plan.next()
            began = time.monotonic()
            try:
                self._round.run(planned)
            except Exception:  # a loop that dies would go unnoticed: fewer requests, and no error anywhere
                log.exception("a round failed")
            # The pace counts from start to start, as with the timers of the original: what a request took is not
            # added to the pause.
            self._stop.wait(max(0.0, planned.pause_s - (time.monotonic() - began)))
