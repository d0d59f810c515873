"""Work on one message: its span, its metrics, and where the message goes next."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from opentelemetry import context, propagate
from opentelemetry.metrics import Meter
from opentelemetry.trace import SpanKind, Tracer

from common.messaging.errors import PoisonMessage, one_line
from common.messaging.headers import Delivery, Message, carrier, decode
from common.messaging.settings import Broker
from common.messaging.telemetry import (
    PROCESS_SPAN,
    error_type,
    mark_failed,
    message_age,
    process_attributes,
    process_metrics,
    queue_labels,
)
from common.messaging.topology import dead_name, retry_name
from common.telemetry.semconv import synthetic_attributes

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Disposition:
    """Where a message goes next: acknowledged if `move_to` is None, else moved to that queue for `reason`."""

    move_to: str | None = None
    reason: str = ""
    redelivery: bool = False  # it is moved to count that it was delivered again, not because an attempt failed


class InstrumentedHandler:
    """Calls the handler within a CONSUMER span, a child of the producer's; safe for many threads."""

    def __init__(
        self,
        broker: Broker,
        queue: str,
        handle: Callable[[Message], None],
        *,
        tracer: Tracer,
        meter: Meter,
        attempts: int,
        max_redeliveries: int,
        max_body_bytes: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._broker = broker
        self._queue = queue
        self._handle = handle
        self._clock = clock
        self._tracer = tracer
        self._attempts = attempts
        self._max_redeliveries = max_redeliveries
        self._max_body_bytes = max_body_bytes
        self._metrics = process_metrics(meter, queue)
        self._age = message_age(meter)

    def process(self, delivery: Delivery) -> Disposition:
        """Work on the message and return its disposition; nothing is raised."""
        extracted = propagate.extract(carrier(delivery.headers))
        token = context.attach(extracted)  # the sender's span and its baggage, also for the handler
        try:
            return self._process(delivery, synthetic_attributes())
        finally:
            context.detach(token)

    def _process(self, delivery: Delivery, marks: Mapping[str, str]) -> Disposition:
        size = len(delivery.body)
        attributes = process_attributes(self._broker, self._queue, delivery.message_id, size, delivery.tag)
        with self._tracer.start_as_current_span(
            PROCESS_SPAN, kind=SpanKind.CONSUMER, attributes={**attributes, **marks}
        ) as span:
            started = time.monotonic()
            error = self._try(delivery)
            self._metrics.record(time.monotonic() - started, error, context.get_current())
            if error is not None:
                mark_failed(span, error)
                if not isinstance(error, PoisonMessage):
                    span.record_exception(error)
                return self._disposition(delivery, error)
            # Only of what succeeded: what failed for good is counted among the dead letters.
            if delivery.sent_at is not None:
                # Clocks of two hosts differ: a message from the future counts as new.
                age_s = max(self._clock() - delivery.sent_at, 0.0)
                self._age.record(age_s, queue_labels(self._queue), context.get_current())
            return Disposition()

    def count_redelivery(self, delivery: Delivery) -> Disposition:
        """Return the disposition of a message that a consumer received before and did not acknowledge.

        A classic queue does not count deliveries, and a message that kills its consumer would do so forever. A copy
        with a higher count takes its place in the queue, until the limit sends it to the dead-letter queue.
        """
        if delivery.redeliveries < self._max_redeliveries:
            return Disposition(self._queue, "delivered again", redelivery=True)
        reason = f"delivered again {delivery.redeliveries} times, never acknowledged"
        log.error("message dead-lettered", extra={"fields": {**_fields(delivery), "reason": reason}})
        return Disposition(dead_name(self._queue), reason, redelivery=True)

    def _try(self, delivery: Delivery) -> BaseException | None:
        try:
            self._handle(decode(delivery, self._max_body_bytes))
        except BaseException as error:  # SystemExit too: it would end this worker and leave its message unacknowledged
            return error
        return None

    def _disposition(self, delivery: Delivery, error: BaseException) -> Disposition:
        """Retry, or dead-letter a poison message and one whose last attempt failed."""
        name = error_type(error)
        reason = one_line(f"{name}: {error}")
        fields = {**_fields(delivery), "error_type": name}
        if isinstance(error, PoisonMessage):
            log.warning("poison message", extra={"fields": {**fields, "reason": str(error)}})
            return Disposition(dead_name(self._queue), reason)
        if delivery.attempt >= self._attempts:
            log.error("message dead-lettered", exc_info=error, extra={"fields": fields})
            return Disposition(dead_name(self._queue), reason)
        log.warning("message failed, will be retried", extra={"fields": fields})
        return Disposition(retry_name(self._queue), reason)


def _fields(delivery: Delivery) -> dict[str, object]:
    return {"message_id": delivery.message_id or "", "attempt": delivery.attempt}
