"""Work on one message: its span, its metrics, and what becomes of it."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.metrics import Meter
from opentelemetry.trace import SpanKind, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from common.messaging import headers, metrics
from common.messaging.broker import Broker
from common.messaging.errors import Poison, one_line
from common.messaging.message import Delivery, Message, read
from common.messaging.spans import PROCESS_SPAN, error_type, mark_failed, process_attributes
from common.messaging.topology import dead_name, retry_name

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a message: done if `move_to` is None, else moved to that queue for `reason`."""

    move_to: str | None = None
    reason: str = ""


class Processing:
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
        max_body_bytes: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._broker = broker
        self._queue = queue
        self._handle = handle
        self._clock = clock
        self._tracer = tracer
        self._attempts = attempts
        self._max_body_bytes = max_body_bytes
        self._metrics = metrics.processing(meter, queue)
        self._age = metrics.ages(meter, queue)
        self._propagator = TraceContextTextMapPropagator()

    def process(self, delivery: Delivery) -> Verdict:
        """Work on the message; whatever goes wrong is in the verdict, nothing is raised."""
        with self._tracer.start_as_current_span(
            PROCESS_SPAN,
            context=self._propagator.extract(headers.carrier(headers.readable(delivery.properties))),
            kind=SpanKind.CONSUMER,
            attributes=process_attributes(
                self._broker, self._queue, delivery.message_id, len(delivery.body), delivery.tag
            ),
        ) as span:
            started = time.monotonic()
            error = self._try(delivery)
            self._metrics.record(time.monotonic() - started, error, trace.set_span_in_context(span))
            if error is None:
                self._note_age(delivery, trace.set_span_in_context(span))
                return Verdict()
            mark_failed(span, error)
            if not isinstance(error, Poison):
                span.record_exception(error)
            return self._judge(delivery, error)

    def _note_age(self, delivery: Delivery, context: Context) -> None:
        """Only of what succeeded: what was given up is counted among the dead letters."""
        if (sent_at := delivery.sent_at) is not None:
            # Clocks of two hosts differ: a message from the future is a new one.
            self._age(max(self._clock() - sent_at, 0.0), context)

    def _try(self, delivery: Delivery) -> BaseException | None:
        try:
            self._handle(read(delivery, self._max_body_bytes))
        except BaseException as error:  # SystemExit too: it would end this worker, and its message would hang for ever
            return error
        return None

    def _judge(self, delivery: Delivery, error: BaseException) -> Verdict:
        """Another attempt, or the dead-letter queue for a poison message and after the last attempt."""
        fields = {
            "message_id": delivery.message_id or "",
            "attempt": delivery.attempt,
            "error_type": error_type(error),
        }
        reason = one_line(f"{error_type(error)}: {error}")
        if isinstance(error, Poison):
            log.warning("poison message", extra={"fields": {**fields, "reason": str(error)}})
            return Verdict(dead_name(self._queue), reason)
        if delivery.attempt >= self._attempts:
            log.error("message given up", exc_info=error, extra={"fields": fields})
            return Verdict(dead_name(self._queue), reason)
        log.warning("message failed, will be tried again", extra={"fields": fields})
        return Verdict(retry_name(self._queue), reason)
