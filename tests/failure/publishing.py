"""A load of messages with ids: which ids the broker confirmed, and which ids recorders recorded."""

import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import NoOpTracerProvider

from common.messaging.publisher import Publisher
from common.messaging.topology import Broker
from local.servers.rabbitmq import RabbitMQ
from tests.integration.messaging_support import wait_ready

# The recorder's log line for each message, written to its log file before the message is acknowledged. Unlike a counter
# in memory, it remains when the process is killed.
RECORDED = "message recorded"
MESSAGE_ID = re.compile(r" message_id=(\S+)")

QUICK = {"FAULT_SLOW_PROCESSING": "0"}


class Publishing:
    """A thread that publishes messages with ids until it is stopped, and records the result of each."""

    def __init__(self, publisher: Publisher, rate: float) -> None:
        self.confirmed: set[str] = set()
        self.failed: dict[str, str] = {}
        self.slowest_s = 0.0
        self.slowest_call_s = 0.0
        self.published = 0
        self._publisher = publisher
        self._pause_s = 1 / rate
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")
        self._thread.start()

    @property
    def errors(self) -> Counter[str]:
        """The number of failed messages by error name."""
        return Counter(list(self.failed.values()))

    @property
    def completed(self) -> int:
        """The number of messages that are confirmed or have failed."""
        return len(self.confirmed) + len(self.failed)

    def stop(self) -> None:
        """Stop publishing, and wait until each message is confirmed or has failed."""
        self._stop.set()
        self._thread.join()
        self._publisher.close(15)

    def _run(self) -> None:
        while not self._stop.wait(self._pause_s):
            message_id, began = f"m{self.published}", time.monotonic()
            self.published += 1
            future = self._publisher.publish("GET /manticore", message_id=message_id)
            self.slowest_call_s = max(self.slowest_call_s, time.monotonic() - began)
            future.add_done_callback(partial(self._record, message_id, began))

    def _record(self, message_id: str, began: float, future: "Future[None]") -> None:
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        error = future.exception()
        if error is None:
            self.confirmed.add(message_id)
        else:
            self.failed[message_id] = type(error).__name__


@contextmanager
def publishing(rabbitmq: RabbitMQ, *, rate: float, confirm_timeout_s: float = 10.0) -> Iterator[Publishing]:
    """Publish `rate` messages per second to the suite's queue until the end of the context."""
    publisher = Publisher(
        Broker(rabbitmq.host, rabbitmq.port, rabbitmq.user, rabbitmq.password, connection_name="failure test"),
        tracer=NoOpTracerProvider().get_tracer("test"),
        meter=NoOpMeterProvider().get_meter("test"),
        confirm_timeout_s=confirm_timeout_s,
    )
    wait_ready(publisher, 30)
    load = Publishing(publisher, rate)
    try:
        yield load
    finally:
        load.stop()


def recorded(logs: Sequence[Path]) -> Counter[str]:
    """Count the recordings of each id in the recorders' log files."""
    return Counter(
        found[1]
        for log in logs
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines()
        if RECORDED in line and (found := MESSAGE_ID.search(line))
    )


def count_recorded(log: Path) -> int:
    """Return how many messages a recorder has recorded so far; cheaper than `recorded`, for polling."""
    return log.read_bytes().count(RECORDED.encode())


def duplicates(found: Counter[str]) -> int:
    """Return the number of recordings of messages that had been recorded before."""
    return found.total() - len(found)
