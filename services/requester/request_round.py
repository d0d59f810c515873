"""One round of the requester: a request, or two, and the message about each."""

import logging
import time
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from functools import partial

from opentelemetry.trace import SpanContext

from common.core.endpoints import EndpointSet, message_text
from common.faults import NEW_VERSION_FAILS, POISON_MESSAGES, SLOW_BEASTS, SLOW_PUBLISH, Faults
from common.messaging.publisher import Publisher
from services.requester.client import Client, RequestFailed
from services.requester.danger_gauge import DangerGauge
from services.requester.traffic_plan import Round

log = logging.getLogger(__name__)

# The two releases that requests claim to come from, half of them each, so that a dashboard can compare them.
OLD_RELEASE, NEW_RELEASE = "1.9.2", "2.0.0"
EVEN = 0.5


class RequestRound:
    """Sends the requests of a round and publishes a message about each that succeeds."""

    def __init__(
        self,
        endpoints: EndpointSet,
        client: Client,
        publisher: Publisher,
        danger: DangerGauge,
        faults: Faults,
        *,
        timeshift_min: int,
    ) -> None:
        self._endpoints = endpoints
        self._client = client
        self._publisher = publisher
        self._danger = danger
        self._faults = faults
        self._timeshift = timedelta(minutes=timeshift_min)
        self._previous: SpanContext | None = None  # of any thread: links connect all requests in order

    def run(self, planned: Round) -> None:
        """Run one round: the request and, after a GET, perhaps the deletion of a name that it returned."""
        self._danger.add(self._endpoints.danger[planned.beast])
        if planned.malformed:
            self._request(planned, "POST", {})  # without a name: the server has to respond with 400
        elif planned.method == "POST":
            self._request(planned, "POST", {"name": planned.name})
        else:
            found = self._request(planned, "GET", None)
            if planned.then_delete and found:
                self._request(planned, "DELETE", {"name": found[0]["name"]})

    def _request(self, planned: Round, method: str, body: dict[str, str] | None) -> list[dict[str, str]]:
        """Send a request and return the names it found; log a failure and return no names."""
        start = time.perf_counter()
        try:
            with self._client.span(method, planned.beast, self._previous) as span:
                self._previous = span.get_span_context()
                try:
                    found = self._client.send(method, planned.beast, body)
                except RequestFailed as failure:
                    share = max(EVEN, self._faults.strength(NEW_VERSION_FAILS))
                    span.set_attribute("service.version", _release(planned.version, share))
                    self._log(method, planned.beast, start, error=str(failure))
                    raise
                span.set_attribute("service.version", _release(planned.version, EVEN))
                self._publish(message_text(method, planned.beast, body), planned.beast)
                self._log(method, planned.beast, start)
                return found
        except RequestFailed:
            return []

    def _publish(self, message: str, beast: str) -> None:
        """Publish the message without waiting; if the broker never confirms it, log that with this trace id."""
        delay_s = self._faults.random_delay(SLOW_PUBLISH, 0.5, 2.5) if beast in SLOW_BEASTS else 0.0
        if self._faults.should_trigger(POISON_MESSAGES):
            message = message.replace(" /", " ", 1)
        future = self._publisher.publish(message, delay_s=delay_s)
        future.add_done_callback(partial(self._log_unpublished, beast))

    def _log_unpublished(self, beast: str, future: Future[None]) -> None:
        if error := future.exception():
            log.error("message not published", extra=self._extra(beast, status="FAILURE", error=str(error)))

    def _log(self, method: str, beast: str, start: float, error: str | None = None) -> None:
        extra = self._extra(
            beast,
            **{
                "http.method": method,
                "endpoint": beast,
                "status": "FAILURE" if error else "SUCCESS",
                "duration": f"{(time.perf_counter() - start) * 1000:.0f}ms",
                "error": error,
            },
        )
        log.log(logging.ERROR if error else logging.INFO, "request made", extra=extra)

    def _extra(self, beast: str, **fields: str | None) -> dict[str, object]:
        now = (datetime.now(UTC) - self._timeshift).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {"fields": {**fields, "loggedtime": now}, "tags": {self._endpoints.tag: beast}}


def _release(chance: float, share_of_new: float) -> str:
    return NEW_RELEASE if chance < share_of_new else OLD_RELEASE
