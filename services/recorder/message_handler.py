"""MessageHandler: processes one message."""

import logging
import random
import re
import time
from collections.abc import Callable

from opentelemetry import trace
from opentelemetry.metrics import Meter

from common.core.endpoints import EndpointSet
from common.faults import SLOW_BEASTS, SLOW_CONSUMER, SLOW_PROCESSING, Faults
from common.messaging.errors import PoisonMessage
from common.messaging.handler import Message
from services.recorder.faults import MemoryLeak, StuckConsumer

log = logging.getLogger(__name__)

WORK_S = (0.02, 0.05)

# `GET /unicorn`, `DELETE /unicorn <name>`, `POST /unicorn {"name": …}`
_TEXT = re.compile(r"(?P<method>GET|POST|DELETE) /(?P<beast>[A-Za-z]+)(?: .*)?", re.DOTALL)


class MessageHandler:
    """Processes messages and counts them; thread-safe."""

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
        self._leak = MemoryLeak(faults)
        self._stuck = StuckConsumer(faults)
        # The exporter to Prometheus adds the suffix _total.
        self._recorded = meter.create_counter("mythical_messages_recorded", description="Messages recorded.")

    def handle(self, message: Message) -> None:
        """Record a message; raise PoisonMessage for a text in none of the three forms: no retry can help."""
        method, beast = self._parse(message.text)
        trace.get_current_span().set_attribute(self._endpoints.tag, beast)
        self._stuck.hold()
        # Simulated: a real recorder would store the message; this one only waits as long.
        self._sleep(random.uniform(*WORK_S) + self._delay_s(beast))  # noqa: S311 - not for secrets
        self._recorded.add(1)
        self._leak.keep()
        fields = {
            "http.method": method,
            "endpoint": beast,
            "status": "SUCCESS",
            "attempt": message.attempt,
            "message_id": message.message_id,  # distinguishes a message delivered twice from two messages
        }
        log.info("message recorded", extra={"fields": fields, "tags": {self._endpoints.tag: beast}})

    def _delay_s(self, beast: str) -> float:
        of_beast = self._faults.random_delay(SLOW_PROCESSING, 0.5, 1.5) if beast in SLOW_BEASTS else 0.0
        return of_beast + self._faults.random_delay(SLOW_CONSUMER, 0.4, 0.6)

    def _parse(self, text: str) -> tuple[str, str]:
        match = _TEXT.fullmatch(text)
        if not match or match["beast"] not in self._endpoints.danger:
            raise PoisonMessage("the message is not about a beast")
        return match["method"], match["beast"]
