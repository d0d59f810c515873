"""What the messaging tests share: publishers and consumers on queues of their own, and ways to look at them."""

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
# that was declared less than that before a kill is forgotten, or, if it is a quorum queue, exists and answers nobody.
# Source: erlang/otp, lib/kernel/src/disk_log_1.erl, TIMEOUT.
REGISTERED_S = 2.5

Part = TypeVar("Part", Publisher, Consumer)


def until(look: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Return when `look` is true; fail the test after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while not look():
        assert time.monotonic() < deadline, f"not so within {timeout_s} s"
        time.sleep(0.01)


def wait_ready(part: Publisher | Consumer, timeout_s: float) -> None:
    """Return when it is ready; raise QueueMismatch at once, otherwise its last error after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while not part.ready:
        error = part.last_error
        if error is not None and (isinstance(error, QueueMismatch) or time.monotonic() > deadline):
            raise error
        assert time.monotonic() < deadline + 1, f"not ready within {timeout_s} s, without an error"
        time.sleep(0.01)


def confirming(connection: pika.BlockingConnection) -> BlockingChannel:
    """A channel whose basic_publish() returns when the broker has the message.

    Of two that are published unconfirmed to a quorum queue just before the connection ends, RabbitMQ 3.10 may lose the
    second: it hears that the publisher is gone before it has taken it in.
    """
    channel = connection.channel()
    channel.confirm_delivery()
    return channel


def wait_registered(declared_at: float) -> None:
    """Return once the broker has noted a queue that was declared at that moment of the monotonic clock."""
    until(lambda: time.monotonic() > declared_at + REGISTERED_S)


@contextmanager
def stopped(rabbitmq: RabbitMQ) -> Iterator[None]:
    """Let the broker hang: connections stand, but nobody answers."""
    pid = rabbitmq.process.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        # On a busy machine, some of its threads run on for a moment, and would confirm a message.
        stats = list(Path(f"/proc/{pid}/task").glob("*/stat"))
        until(lambda: all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in stats))
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class Rig:
    """A queue of its own with its publishers and consumers, and the spans and metrics they made."""

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
        """A publisher on the queue, ready unless `wait` is false."""
        made = Publisher(
            more.pop("broker", self.broker),
            tracer=self.tracer,
            meter=self.meters.get_meter("publisher"),
            queue=self.queue,
            **more,
        )
        return self._opened(made, wait)

    def consumer(self, handle: Callable[[Message], None], *, wait: bool = True, **more: Any) -> Consumer:
        """A consumer of the queue, ready unless `wait` is false; retries soon unless told otherwise."""
        settings = {"retry_delay_s": 0.2, "depth_interval_s": 0.1, **more}
        made = Consumer(
            self.broker,
            handle,
            tracer=self.tracer,
            meter=self.meters.get_meter("consumer"),
            queue=self.queue,
            **settings,
        )
        return self._opened(made, wait)

    def kill_broker(self) -> None:
        """End the broker with SIGKILL, not before it has noted the youngest queue."""
        wait_registered(self._declared_at)
        self.rabbitmq.kill()

    def spans(self, name: str) -> Sequence[ReadableSpan]:
        """The finished spans of that name."""
        return [span for span in self.exporter.get_finished_spans() if span.name == name]

    def points(self, name: str) -> list[Any]:
        """The data points of a metric, collected now; collecting uses up the exemplars of all metrics."""
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
        """A plain channel, for what the package itself would not do; what is published on it is confirmed."""
        connection = pika.BlockingConnection(connection_parameters(self.broker, "test"))
        try:
            yield confirming(connection)
        finally:
            if connection.is_open:
                connection.close()

    def dead(self) -> list[tuple[pika.BasicProperties, bytes]]:
        """Take everything out of the dead-letter queue."""
        taken = []
        with self.channel() as channel:
            while (got := channel.basic_get(dead_name(self.queue), auto_ack=True))[0] is not None:
                taken.append(got[1:])
        return taken

    def clear(self) -> None:
        """Close what is open and delete the queues."""
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
    """A handler that counts by text and does what it is told to."""

    def __init__(self, work: Callable[[Message], None] = lambda _message: None) -> None:
        self.messages: list[Message] = []
        self._work = work
        self._lock = threading.Lock()

    def __call__(self, message: Message) -> None:
        """Note the message, then work on it."""
        with self._lock:
            self.messages.append(message)
        self._work(message)

    @property
    def ids(self) -> Counter[str | None]:
        """How often each message_id was handled."""
        with self._lock:
            return Counter(message.message_id for message in self.messages)

    @property
    def texts(self) -> list[str]:
        """The texts in the order handled."""
        with self._lock:
            return [message.text for message in self.messages]


class Gate:
    """A handler that works until `open` is set."""

    def __init__(self) -> None:
        self.open = threading.Event()

    def __call__(self, _message: Message) -> None:
        """Wait for it, at most 20 seconds."""
        self.open.wait(60)


def rabbitmqctl(rabbitmq: RabbitMQ, *arguments: str) -> None:
    """Run rabbitmqctl against this broker."""
    program = rabbitmq_binary().with_name("rabbitmqctl")
    subprocess.run(  # noqa: S603 - our own arguments
        [program, *arguments], env=rabbitmq.environ, check=True, capture_output=True, timeout=300
    )
