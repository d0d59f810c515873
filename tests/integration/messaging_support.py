"""Helpers of the messaging tests: publishers and consumers on separate queues, and access to their telemetry."""

import os
import signal
import subprocess
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pika  # type: ignore[import-untyped]  # pika ships no py.typed
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pika.adapters.blocking_connection import BlockingChannel  # type: ignore[import-untyped]  # pika ships no py.typed

from common.messaging.connection import connection_parameters
from common.messaging.consumer import Consumer
from common.messaging.errors import QueueMismatch
from common.messaging.handler import Message
from common.messaging.publisher import Publisher
from common.messaging.topology import Broker, dead_name, retry_name
from local.servers.binaries import rabbitmq_binary
from local.servers.rabbitmq import RabbitMQ

READY_S = 30.0

# RabbitMQ 3 keeps its registry of queues in Mnesia, whose log is written to the file up to two seconds late. A queue
# that was declared less than that before a kill is lost or, if it is a quorum queue, exists and doesn't answer.
# Source: erlang/otp, lib/kernel/src/disk_log_1.erl, TIMEOUT.
REGISTERED_S = 2.5

Part = TypeVar("Part", Publisher, Consumer)


def until(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Wait until the condition is true; fail the test after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not true within {timeout_s} s"
        time.sleep(0.01)


def wait_ready(part: Publisher | Consumer, timeout_s: float) -> None:
    """Wait until it is ready; raise QueueMismatch at once, and any other error after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while not part.ready:
        error = part.last_error
        if error is not None and (isinstance(error, QueueMismatch) or time.monotonic() > deadline):
            raise error
        assert time.monotonic() < deadline + 1, f"not ready within {timeout_s} s, without an error"
        time.sleep(0.01)


def confirming(connection: pika.BlockingConnection) -> BlockingChannel:
    """Return a channel whose basic_publish() returns when the broker has the message.

    RabbitMQ 3.10 may lose the second of two unconfirmed messages to a quorum queue if the connection ends just after
    them: it processes the end of the connection before the message.
    """
    channel = connection.channel()
    channel.confirm_delivery()
    return channel


def wait_registered(declared_at: float) -> None:
    """Wait until the broker has stored a queue that was declared at this time of the monotonic clock."""
    until(lambda: time.monotonic() > declared_at + REGISTERED_S)


@contextmanager
def stopped(rabbitmq: RabbitMQ) -> Iterator[None]:
    """Suspend the broker: connections stay open, but it doesn't answer."""
    pid = rabbitmq.process.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        # On a busy machine, some of its threads continue for a moment and would confirm a message.
        stats = list(Path(f"/proc/{pid}/task").glob("*/stat"))
        until(lambda: all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in stats))
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class Rig:
    """A separate queue with publishers and consumers, and their spans and metrics."""

    def __init__(self, rabbitmq: RabbitMQ) -> None:
        self.rabbitmq = rabbitmq
        self.broker = Broker(rabbitmq.host, rabbitmq.port, rabbitmq.user, rabbitmq.password, connection_name="test")
        self.queue = f"test-{uuid.uuid4().hex[:8]}"
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.tracers.get_tracer("test")
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self._open: list[Publisher | Consumer] = []
        self._declared_at = 0.0

    def publisher(self, *, wait: bool = True, **more: Any) -> Publisher:
        """Return a publisher for the queue, ready unless `wait` is false."""
        publisher = Publisher(
            more.pop("broker", self.broker),
            tracer=self.tracer,
            meter=self.meters.get_meter("publisher"),
            queue=self.queue,
            **more,
        )
        return self._opened(publisher, wait)

    def consumer(self, handle: Callable[[Message], None], *, wait: bool = True, **more: Any) -> Consumer:
        """Return a consumer of the queue, ready unless `wait` is false; by default with a short retry delay."""
        settings = {"retry_delay_s": 0.2, "depth_interval_s": 0.1, **more}
        consumer = Consumer(
            self.broker,
            handle,
            tracer=self.tracer,
            meter=self.meters.get_meter("consumer"),
            queue=self.queue,
            **settings,
        )
        return self._opened(consumer, wait)

    def kill_broker(self) -> None:
        """Kill the broker with SIGKILL, but not before it has stored the newest queue."""
        wait_registered(self._declared_at)
        self.rabbitmq.kill()

    def spans(self, name: str) -> Sequence[ReadableSpan]:
        """Return the finished spans with this name."""
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def points(self, name: str) -> list[Any]:
        """Collect and return the data points of a metric; collecting clears the exemplars of all metrics."""
        data = self.reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data else [])
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]

    @contextmanager
    def channel(self) -> Iterator[BlockingChannel]:
        """Yield a plain channel, for operations that the package doesn't offer; publishing waits for the confirm."""
        connection = pika.BlockingConnection(connection_parameters(self.broker, "test"))
        try:
            yield confirming(connection)
        finally:
            if connection.is_open:
                connection.close()

    def dead(self) -> list[tuple[pika.BasicProperties, bytes]]:
        """Consume all messages of the dead-letter queue; return their properties and bodies."""
        messages = []
        with self.channel() as channel:
            while (got := channel.basic_get(dead_name(self.queue), auto_ack=True))[0] is not None:
                messages.append(got[1:])
        return messages

    def clear(self) -> None:
        """Close all publishers and consumers, and delete the queues."""
        for part in self._open:
            part.close(1)
        with self.channel() as channel:
            for name in (self.queue, retry_name(self.queue), dead_name(self.queue)):
                channel.queue_delete(name)

    def _opened(self, part: Part, wait: bool) -> Part:
        self._open.append(part)
        if wait:
            wait_ready(part, READY_S)
        self._declared_at = time.monotonic()
        return part


class Recorder:
    """A handler that stores messages and calls a function for each."""

    def __init__(self, work: Callable[[Message], None] = lambda _message: None) -> None:
        self.messages: list[Message] = []
        self._work = work
        self._lock = threading.Lock()

    def __call__(self, message: Message) -> None:
        """Store the message, then process it."""
        with self._lock:
            self.messages.append(message)
        self._work(message)

    @property
    def ids(self) -> Counter[str | None]:
        """The number of times that each message_id was handled."""
        with self._lock:
            return Counter(message.message_id for message in self.messages)

    @property
    def texts(self) -> list[str]:
        """The texts in the order in which they were handled."""
        with self._lock:
            return [message.text for message in self.messages]


class Gate:
    """A handler that blocks until `open` is set."""

    def __init__(self) -> None:
        self.open = threading.Event()

    def __call__(self, _message: Message) -> None:
        """Wait for the event, for at most 60 seconds."""
        self.open.wait(60)


def rabbitmqctl(rabbitmq: RabbitMQ, *arguments: str) -> None:
    """Run rabbitmqctl on this broker."""
    program = rabbitmq_binary().with_name("rabbitmqctl")
    subprocess.run(  # noqa: S603 - constant arguments
        [program, *arguments], env=rabbitmq.environ, check=True, capture_output=True, timeout=300
    )
