"""Consume messages: work first, then acknowledge; retry with delay, then the dead-letter queue."""

import logging
import threading
import time
from collections.abc import Callable, Mapping

from opentelemetry.metrics import Meter
from opentelemetry.trace import Tracer

from common.messaging import headers, metrics
from common.messaging.broker import Broker
from common.messaging.depth import DepthProbe
from common.messaging.errors import MessagingError
from common.messaging.inbox import Inbox
from common.messaging.intake import Intake
from common.messaging.message import Delivery, Message
from common.messaging.outbox import Outbox, Outgoing
from common.messaging.owner import Owner
from common.messaging.processing import Processing, Verdict
from common.messaging.readiness import LOOK_EVERY_S, wait_until_ready
from common.messaging.topology import dead_name, dead_queue, retry_name, retry_queue
from common.messaging.workers import Workers

log = logging.getLogger(__name__)

# A move that the broker neither confirms nor refuses is worth a line in the log, and another try.
MOVE_TIMEOUT_S = 30.0
MOVE_AGAIN_S = 1.0


class Consumer:
    """Calls `handle` for each message of a queue, on `concurrency` threads, and survives the broker's restarts.

    A message is acknowledged after `handle` returned. If it raises, the message waits `retry_delay_s` seconds in
    `<queue>.retry` and is tried again, `attempts` times in all, then it goes to `<queue>.dead`; Poison goes there at
    once. The original is acknowledged only when the broker has confirmed the move. Every message is handled at least
    once: a lost connection, here or there, makes a duplicate rather than a gap.

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
        retry_delay_s: float = 5.0,
        max_body_bytes: int = 64 * 1024,
        depth_interval_s: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._queue = queue
        self._owner = Owner("consumer")
        self._workers: Workers[Delivery] = Workers(concurrency, self._work, "worker")
        self._depth = DepthProbe(self._owner, [queue, retry_name(queue), dead_name(queue)], depth_interval_s)
        self._intake = Intake(
            self._owner, broker, queue, prefetch=prefetch or 2 * concurrency, take=self._workers.give, depth=self._depth
        )
        self._moves = Outbox(
            self._owner, broker, "consumer moves", [retry_queue(queue, retry_delay_s), dead_queue(queue)]
        )
        self._processing = Processing(
            broker,
            queue,
            handle,
            tracer=tracer,
            meter=meter,
            attempts=attempts,
            max_body_bytes=max_body_bytes,
            clock=clock,
        )
        self._settled: Inbox[tuple[Delivery, Verdict]] = Inbox(self._owner, self._settle)
        self._retried = metrics.retried(meter)
        self._dead_lettered = metrics.dead_lettered(meter)
        self._labels = {"messaging.system": "rabbitmq", "messaging.destination.name": queue}
        metrics.depths(meter, lambda: self._depth.depths)
        self._workers.start()
        self._owner.start(self._intake.link, self._moves.link)
        self._owner.call(self._intake.link.open)
        self._owner.call(self._moves.link.open)

    @property
    def ready(self) -> bool:
        """Whether messages are taken now, and can be put aside where that is needed."""
        return self._intake.ready and self._moves.ready

    @property
    def trouble(self) -> MessagingError | None:
        """Why it is not ready: BrokerUnavailable or QueueMismatch; None when it is."""
        return self._intake.link.trouble or self._moves.link.trouble

    @property
    def depths(self) -> Mapping[str, int]:
        """Ready messages per queue as last heard from the broker; empty while it is away."""
        return self._depth.depths

    def wait_ready(self, timeout_s: float) -> None:
        """Return when ready; raise QueueMismatch at once, or what the trouble is after `timeout_s` seconds."""
        wait_until_ready(self, timeout_s)

    def close(self, timeout_s: float) -> int:
        """Take no more, finish what is in hand, and return how many were not finished within `timeout_s` seconds.

        Those will be delivered again, to this consumer's successor.
        """
        deadline = time.monotonic() + timeout_s
        stopped = threading.Event()
        self._owner.call(lambda: self._intake.stop(stopped.set))
        stopped.wait(timeout_s)
        while self._intake.in_hand and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY_S)
        left = self._intake.in_hand
        if left:
            log.warning("messages not finished at close", extra={"fields": {"count": left}})
        self._workers.stop(max(deadline - time.monotonic(), 0))
        self._owner.stop(max(deadline - time.monotonic(), 0.5))
        return left

    def _work(self, delivery: Delivery) -> None:
        """On a worker's thread; skips what the broker will deliver again anyway, since its connection is gone."""
        if self._intake.holds(delivery):
            self._settled.put((delivery, self._processing.process(delivery)))

    def _settle(self, outcome: tuple[Delivery, Verdict]) -> None:
        delivery, verdict = outcome
        if verdict.move_to is None:
            self._intake.acknowledge(delivery)
        elif self._intake.holds(delivery):
            self._move(delivery, verdict.move_to, verdict.reason)

    def _move(self, delivery: Delivery, queue: str, reason: str) -> None:
        """Send the message on, and acknowledge the original when the broker has the copy: never neither."""

        def done(error: MessagingError | None) -> None:
            if error is None:
                counter = self._dead_lettered if queue == dead_name(self._queue) else self._retried
                counter.add(1, self._labels)
                self._intake.acknowledge(delivery)
            elif self._intake.holds(delivery):
                log.warning("message could not be put aside", extra={"fields": {"queue": queue, "reason": str(error)}})
                self._owner.later(MOVE_AGAIN_S, lambda: self._move(delivery, queue, reason))

        properties = headers.moved(delivery.properties, delivery.attempt, reason)
        deadline = time.monotonic() + MOVE_TIMEOUT_S
        self._moves.send(Outgoing(queue, delivery.body, properties, deadline, done))
