"""Messages under load, known by their ids: what the broker confirmed, and what recorders wrote down."""

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

# A recorder's own line for each message, written to its log file before the message is acknowledged: it outlives the
# process, as a counter in memory does not.
RECORDED = "message recorded"
MESSAGE_ID = re.compile(r" message_id=(\S+)")

QUICK = {"FAULT_SLOW_PROCESSING": "0"}


class Publishing:
    """A thread that publishes with ids until it is stopped, and notes what became of each message."""

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
    def faults(self) -> Counter[str]:
        """How many failed, by the error's name."""
        return Counter(list(self.failed.values()))

    @property
    def ended(self) -> int:
        """How many are confirmed or have failed."""
        return len(self.confirmed) + len(self.failed)

    def stop(self) -> None:
        """Publish no more, and wait until each message has its end."""
        self._stop.set()
        self._thread.join()
        self._publisher.close(15)

    def _run(self) -> None:
        while not self._stop.wait(self._pause_s):
            message_id, began = f"m{self.published}", time.monotonic()
            self.published += 1
            future = self._publisher.publish("GET /manticore", message_id=message_id)
            self.slowest_call_s = max(self.slowest_call_s, time.monotonic() - began)
            future.add_done_callback(partial(self._note, message_id, began))

    def _note(self, message_id: str, began: float, future: "Future[None]") -> None:
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        error = future.exception()
        if error is None:
            self.confirmed.add(message_id)
        else:
            self.failed[message_id] = type(error).__name__


@contextmanager
def publishing(rabbitmq: RabbitMQ, *, rate: float, confirm_timeout_s: float = 10.0) -> Iterator[Publishing]:
    """Give a load of `rate` messages per second on the suite's queue, and end it."""
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
    """How often each id was recorded, by the recorders' own log files."""
    return Counter(
        found[1]
        for log in logs
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines()
        if RECORDED in line and (found := MESSAGE_ID.search(line))
    )


def count_recorded(log: Path) -> int:
    """How many a recorder has recorded so far; cheaper than `recorded`, for waiting."""
    return log.read_bytes().count(RECORDED.encode())


def duplicates(found: Counter[str]) -> int:
    """How many recordings were of a message that had been recorded before."""
    return found.total() - len(found)
