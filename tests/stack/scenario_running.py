"""Scenarios that run in the stack while a test looks."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from workshop import scenario
from workshop.fault_client import FaultClient
from workshop.runner import Runner


@contextmanager
def running(name: str, switches: FaultClient, lasts_s: float) -> Iterator[None]:
    """Run a scenario until the end of the block, for `lasts_s` seconds at most."""
    runner = Runner(scenario.read(name), switches, lambda _: None)
    thread = threading.Thread(target=runner.run, args=(0.0, lasts_s))
    thread.start()
    try:
        yield
    finally:
        runner.stop()
        thread.join()
