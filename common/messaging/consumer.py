"""Consume messages: work first, then acknowledge; retry with delay, then the dead-letter queue."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from queue import SimpleQueue
from typing import Generic, TypeVar

from opentelemetry.metrics import Meter
from opentelemetry.trace import Tracer
from pika import BasicProperties  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.channel import Channel  # type: ignore[import-untyped]  # pika ships no py.typed
from pika.spec import Basic  # type: ignore[import-untyped]  # pika ships no py.typed

from common.core.pacing import RateLimitedLog
from common.messaging.connection import ConfirmedSender, IOLoopThread, Outgoing, ReconnectingConnection
from common.messaging.errors import MessagingError, QueueMismatch
from common.messaging.handler import Delivery, Disposition, InstrumentedHandler, Message, copied
from common.messaging.telemetry import observe_depths, observe_unacknowledged, queue_labels
from common.messaging.topology import Broker, dead_name, dead_queue, retry_queue, work_queue

log = logging.getLogger(__name__)

POLL_INTERVAL_S = 0.01

# After this time a copy that the broker neither confirms nor rejects is logged and sent again.
MOVE_TIMEOUT_S = 30.0
MOVE_RETRY_S = 1.0
LOG_INTERVAL_S = 30.0
# Shorter: the message has not been worked on yet, and is then handled without being counted.
COUNT_TIMEOUT_S = 5.0

# High: a delivery counts when its consumer dies before the acknowledgement, also for the messages that only waited in
# its prefetch. A low limit would dead-letter good messages merely because the consumer was restarted often.
MAX_REDELIVERIES = 100

T = TypeVar("T")


class Consumer:
    """Calls `handle` for each message of a queue, on `concurrency` threads, and survives the broker's restarts.

    A message is acknowledged after `handle` returned. If it raises, the message waits `retry_delay_s` seconds in
    `<queue>.retry` and is tried again, `attempts` times in all, then it goes to `<queue>.dead`; a PoisonMessage goes
    there at once, and so does a message that was delivered again more than `max_redeliveries` times because its
    consumers died. The original is acknowledged only when the broker has confirmed the copy. Every message is handled
    at least once: a lost connection, on either side, makes a duplicate rather than a gap.

    Two connections on one thread: a broker whose alarm is on stops reading from connections that publish, and
    acknowledgements on the same one would be stuck as well.
    """

    def __init__(
        self,
        broker: Broker,
        handle: Callable[[Message], None],
        *,
        tracer: Tracer,
        meter: Meter,
        queue: str = "messages",
        concurrency: int = 16,
        prefetch: int | None = None,
        attempts: int = 5,
        max_redeliveries: int = MAX_REDELIVERIES,
        retry_delay_s: float = 5.0,
        depth_interval_s: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._dead = dead_name(queue)
        self._handler = InstrumentedHandler(
            broker, queue, handle, tracer, meter, attempts, max_redeliveries, clock=clock
        )
        self._thread = IOLoopThread("consumer")
        self._workers: Workers[Delivery] = Workers(concurrency, self._work, "worker", self._deliver_again)
        self._receiver = DeliveryReceiver(
            self._thread, broker, queue, prefetch=prefetch or 2 * concurrency, on_delivery=self._workers.submit
        )
        self._mover = ConfirmedSender(
            self._thread, broker, "consumer moves", [retry_queue(queue, retry_delay_s), dead_queue(queue)]
        )
        self._retried = meter.create_counter(
            "mythical_messages_retried", "{message}", "Messages moved to the retry queue after a failure."
        )
        self._dead_lettered = meter.create_counter(
            "mythical_messages_dead_lettered", "{message}", "Messages moved to the dead-letter queue."
        )
        self._redelivered = meter.create_counter(
            "mythical_messages_redelivered", "{message}", "Messages that the broker delivered again."
        )
        self._clock = clock
        self._labels = queue_labels(queue)
        self._not_moved = RateLimitedLog(LOG_INTERVAL_S)  # each message is tried again every second
        self._depth_interval_s = depth_interval_s
        observe_depths(meter, lambda: self.depths)
        observe_unacknowledged(meter, queue, lambda: self._receiver.unacked, self._oldest_s)
        self._thread.start()
        self._thread.call_soon_threadsafe(self._refresh_depths)

    @property
    def ready(self) -> bool:
        """Whether messages are consumed now, and can be moved to the retry and dead-letter queues."""
        return self._receiver.ready and self._mover.ready

    @property
    def last_error(self) -> MessagingError | None:
        """Why it is not ready: BrokerUnavailable or QueueMismatch; None when it is."""
        return self._receiver.last_error or self._mover.last_error

    @property
    def depths(self) -> Mapping[str, int]:
        """Ready messages per queue as last reported by the broker; without those of a connection that is lost."""
        return {**self._receiver.depths, **self._mover.depths}

    def close(self, timeout_s: float) -> int:
        """Stop consuming, finish what is unacknowledged, and return how many were not finished within `timeout_s`.

        The broker delivers those again, to another consumer.
        """
        deadline = time.monotonic() + timeout_s
        stopped = threading.Event()
        self._thread.call_soon_threadsafe(lambda: self._receiver.stop(stopped.set))
        stopped.wait(timeout_s)
        while self._receiver.unacked and time.monotonic() < deadline:
            time.sleep(POLL_INTERVAL_S)
        left = self._receiver.unacked
        if left:
            log.warning("messages not finished at close", extra={"fields": {"count": left}})
        self._workers.stop(max(deadline - time.monotonic(), 0))
        self._thread.stop(max(deadline - time.monotonic(), 0.5))
        return left

    def _oldest_s(self) -> float:
        oldest = self._receiver.oldest
        return 0.0 if oldest is None else max(self._clock() - oldest, 0.0)  # clocks of two hosts differ

    def _refresh_depths(self) -> None:
        """Declare the queues again: the answers have the number of ready messages. Not while nothing is answered."""
        for connection in (self._receiver, self._mover):
            if not connection.blocked:
                connection.declare_again()
        self._thread.call_later(self._depth_interval_s, self._refresh_depths)

    def _deliver_again(self) -> None:
        """Have the broker deliver again what is not acknowledged, such as a message whose work raised an error."""
        self._thread.call_soon_threadsafe(partial(self._receiver.reconnect, "internal error"))

    def _work(self, delivery: Delivery) -> None:
        """On a worker's thread; skip what the broker will deliver again anyway, because its connection is lost."""
        if not self._receiver.can_acknowledge(delivery):
            return
        # Redelivered messages are handled uncounted while copies cannot be sent, or the queue would stop.
        can_count = not (self._mover.blocked or isinstance(self._mover.last_error, QueueMismatch))
        if delivery.redelivered:
            self._redelivered.add(1, self._labels)
        if delivery.redelivered and can_count:
            disposition = self._handler.count_redelivery(delivery)
        else:
            disposition = self._handler.process(delivery)
        self._thread.call_soon_threadsafe(partial(self._acknowledge_or_move, delivery, disposition))

    def _acknowledge_or_move(self, delivery: Delivery, disposition: Disposition) -> None:
        """Acknowledge the message; if it is to be moved, when the broker has confirmed the copy: it is never lost."""
        queue = disposition.move_to
        if queue is None:
            self._receiver.acknowledge(delivery)
            return
        if not self._receiver.can_acknowledge(delivery):
            return

        def done(error: MessagingError | None) -> None:
            if error is None:
                if queue == self._dead:
                    self._dead_lettered.add(1, self._labels)
                elif not disposition.redelivery:
                    self._retried.add(1, self._labels)
                self._receiver.acknowledge(delivery)
            elif self._receiver.can_acknowledge(delivery):
                if count := self._not_moved.record():
                    fields = {"queue": queue, "reason": str(error), "count": count}
                    log.warning("could not requeue or dead-letter the message", extra={"fields": fields})
                retry = partial(self._workers.submit, delivery)  # to decide again whether it can be counted
                if not disposition.redelivery:
                    retry = partial(self._acknowledge_or_move, delivery, disposition)
                self._thread.call_later(MOVE_RETRY_S, retry)

        properties = copied(
            delivery,
            attempts=delivery.attempt - disposition.redelivery,
            redeliveries=delivery.redeliveries + disposition.redelivery,
            reason=disposition.reason,
        )
        deadline = time.monotonic() + (COUNT_TIMEOUT_S if disposition.redelivery else MOVE_TIMEOUT_S)
        self._mover.send(Outgoing(queue, delivery.body, properties, deadline, done))


class DeliveryReceiver(ReconnectingConnection):
    """Receives messages and acknowledges them; on the loop's thread, except `unacked` and `can_acknowledge`.

    After each reconnect it consumes again, and the broker delivers again what was not acknowledged.
    """

    def __init__(
        self,
        thread: IOLoopThread,
        broker: Broker,
        queue: str,
        *,
        prefetch: int,
        on_delivery: Callable[[Delivery], None],
    ) -> None:
        super().__init__(thread, broker, "consumer", [work_queue(queue)])
        self._queue = queue
        self._prefetch = prefetch
        self._on_delivery = on_delivery
        self._channel: Channel | None = None
        self._consumer_tag = ""
        self._unacked: dict[int, float | None] = {}  # when each was sent, by its tag
        self._stopping = False
        self._on_stopped: Callable[[], None] = lambda: None

    @property
    def unacked(self) -> int:
        """How many messages were received over the present connection and not acknowledged yet."""
        return len(self._unacked)

    @property
    def oldest(self) -> float | None:
        """When the oldest of them was sent, in seconds since 1970; None if there is none, or none says so."""
        return min((sent for sent in list(self._unacked.values()) if sent is not None), default=None)

    def can_acknowledge(self, delivery: Delivery) -> bool:
        """Whether the delivery's channel is still open; if not, the broker delivers the message again."""
        return delivery.channel is self._channel

    def acknowledge(self, delivery: Delivery) -> None:
        """Acknowledge the message, unless its channel is lost."""
        if self.can_acknowledge(delivery):
            delivery.channel.basic_ack(delivery.tag)
            self._unacked.pop(delivery.tag, None)

    def stop(self, on_stopped: Callable[[], None]) -> None:
        """Consume no more; what was received can still be acknowledged. `on_stopped` may be called twice."""
        self._stopping = True
        self._on_stopped = on_stopped
        if self.ready and self._channel is not None and self._channel.is_open:
            self.ready = False
            self._channel.basic_cancel(self._consumer_tag, callback=lambda _cancelled: on_stopped())
        else:
            on_stopped()

    def on_channel_open(self, channel: Channel) -> None:
        """Consume, with at most `prefetch` unacknowledged messages."""
        if self._stopping:
            self.set_up_done(ready=False)
            return
        self._channel = channel
        channel.add_on_cancel_callback(lambda _frame: self.reconnect("the queue was deleted or moved"))
        channel.basic_qos(prefetch_count=self._prefetch)
        self._consumer_tag = channel.basic_consume(
            self._queue, self._on_message, callback=lambda _consuming: self.set_up_done()
        )

    def on_channel_lost(self) -> None:
        """Forget the deliveries of the lost channel; a stop() that waits for the broker's answer is complete."""
        self._channel = None
        self._unacked.clear()
        self._on_stopped()

    def _on_message(self, channel: Channel, method: Basic.Deliver, properties: BasicProperties, body: bytes) -> None:
        delivery = Delivery(channel, method.delivery_tag, method.redelivered, properties, body)
        self._unacked[delivery.tag] = delivery.waited_from
        self._on_delivery(delivery)


class Workers(Generic[T]):
    """`count` daemon threads that call `work` on each item, and `failed` if it raises; the error is logged.

    Not concurrent.futures: the interpreter waits for its threads at exit, so one handler that hangs would keep the
    process from ending.
    """

    def __init__(
        self, count: int, work: Callable[[T], None], name: str, failed: Callable[[], None] = lambda: None
    ) -> None:
        self._work = work
        self._failed = failed
        self._items: SimpleQueue[T | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._run, name=f"{name}-{n}", daemon=True) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def submit(self, item: T) -> None:
        """Have the next free thread work on an item. The consumer's prefetch bounds how many wait."""
        self._items.put(item)

    def stop(self, timeout_s: float) -> None:
        """End the threads after the items submitted so far; wait at most `timeout_s` seconds."""
        deadline = time.monotonic() + timeout_s
        for _ in self._threads:
            self._items.put(None)
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))

    def _run(self) -> None:
        while (item := self._items.get()) is not None:
            try:
                self._work(item)
            except Exception:  # a dead thread would go unnoticed, and with the last of them nothing would be consumed
                log.exception(
                    "messaging callback failed", extra={"fields": {"thread": threading.current_thread().name}}
                )
                self._failed()
