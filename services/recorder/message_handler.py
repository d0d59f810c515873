"""MessageHandler: what is done with one message."""

import logging
import random
import re
import time
from collections.abc import Callable

from opentelemetry import trace
from opentelemetry.metrics import Meter

from common.core.endpoints import EndpointSet
from common.faults import SLOW_BEASTS, SLOW_CONSUMER, SLOW_PROCESSING, Faults
from common.messaging import Message, Poison
from services.recorder.faults.leak import Leak
from services.recorder.faults.stuck import Stuck

log = logging.getLogger(__name__)

WORK_S = (0.02, 0.05)

# `GET /unicorn`, `DELETE /unicorn <name>`, `POST /unicorn {"name": …}`
_TEXT = re.compile(r"(?P<method>GET|POST|DELETE) /(?P<beast>[A-Za-z]+)(?: .*)?", re.DOTALL)


class MessageHandler:
    """Works on messages and counts them; used from many threads at once."""

    def __init__(
        self,
        endpoints: EndpointSet,
        meter: Meter,
        faults: Faults,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._endpoints = endpoints
        self._faults = faults
        self._sleep = sleep
        self._leak = Leak(faults)
        self._stuck = Stuck(faults)
        # The suffix _total is added on the way to Prometheus.
        self._recorded = meter.create_counter("mythical_messages_recorded", description="Messages recorded.")

    def handle(self, message: Message) -> None:
        """Record one message; raises Poison for a text that is none of the three forms, which no retry can mend."""
        method, beast = self._read(message.text)
        trace.get_current_span().set_attribute(self._endpoints.tag, beast)
        self._stuck.hold()
        # Simulated: a real recorder would store the message; this one only takes the time for it.
        self._sleep(random.uniform(*WORK_S) + self._slowness(beast))  # noqa: S311 - dice, not secrets
        self._recorded.add(1)
        self._leak.keep()
        fields = {
            "http.method": method,
            "endpoint": beast,
            "status": "SUCCESS",
            "attempt": message.attempt,
            "message_id": message.message_id,  # by which a message that came twice is told from two messages
        }
        log.info("message recorded", extra={"fields": fields, "tags": {self._endpoints.tag: beast}})

    def _slowness(self, beast: str) -> float:
        of_beast = self._faults.random_delay(SLOW_PROCESSING, 0.5, 1.5) if beast in SLOW_BEASTS else 0.0
        return of_beast + self._faults.random_delay(SLOW_CONSUMER, 0.4, 0.6)

    def _read(self, text: str) -> tuple[str, str]:
        match = _TEXT.fullmatch(text)
        if not match or match["beast"] not in self._endpoints.danger:
            raise Poison("the message is not about a beast")
        return match["method"], match["beast"]
