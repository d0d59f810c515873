"""The worker threads: each runs one round after another, at the pace of the plan."""

import logging
import threading
import time

from services.requester.request_round import RequestRound
from services.requester.traffic_plan import TrafficPlan

log = logging.getLogger(__name__)


class WorkerThreads:
    """`count` threads; the first starts after `start_s` seconds, each other one a second later."""

    def __init__(self, plan: TrafficPlan, request_round: RequestRound, *, count: int, start_s: float) -> None:
        self._plan = plan
        self._round = request_round
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(start_s + number,), name=f"loop-{number}", daemon=True)
            for number in range(count)
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def close(self, timeout_s: float = 1.0) -> None:
        """Stop after the current rounds, or after timeout_s seconds."""
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
            except Exception:  # a dead thread would go unnoticed: fewer requests, and no error anywhere
                log.exception("request round failed")
            # The pause is measured from start to start, as by the timers of the original: the duration of a request
            # is not added to it.
            self._stop.wait(max(0.0, planned.pause_s - (time.monotonic() - began)))
