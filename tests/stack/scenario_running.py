"""Run scenarios in the stack during a test."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from workshop import scenario
from workshop.fault_client import FaultClient
from workshop.runner import Runner


@contextmanager
def running(name: str, fault_client: FaultClient, lasts_s: float) -> Iterator[None]:
    """Run a scenario until the end of the context, for at most `lasts_s` seconds."""
    runner = Runner(scenario.read(name), fault_client, lambda _: None)
    thread = threading.Thread(target=runner.run, args=(0.0, lasts_s))
    thread.start()
    try:
        yield
    finally:
        runner.stop()
        thread.join()
