"""A round sends one or two requests, publishes their messages, and logs them."""

import logging
import random
import re
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from opentelemetry.trace import Span, SpanContext

from common.core.endpoints import BORING, MYTHICAL, EndpointSet
from common.faults import NEW_VERSION_FAILS, SLOW_PUBLISH, Faults
from common.messaging.errors import BrokerUnavailable, MessagingError
from common.messaging.publisher import Publisher
from common.telemetry.logs.records import TraceContextFilter
from services.requester.client import Client, RequestFailed
from services.requester.danger_gauge import DangerGauge
from services.requester.request_round import RequestRound
from services.requester.traffic_plan import Round
from tests.unit.services.recorded import Recorded, attributes

GET = Round(method="GET", beast="owlbear", name="x", malformed=False, then_delete=False, version=0.4, pause_s=0)
POST = replace(GET, method="POST", name="sly_otter")
WRONG = replace(POST, malformed=True)


class FakeClient:
    """A client that returns the configured names or fails."""

    def __init__(self, recorded: Recorded) -> None:
        self.requests: list[tuple[str, str, dict[str, str] | None, SpanContext | None]] = []
        self.names: list[dict[str, str]] = []
        self.failure: RequestFailed | None = None
        self._recorded = recorded
        self._previous: SpanContext | None = None

    @contextmanager
    def span(self, _method: str, _beast: str, previous: SpanContext | None) -> Iterator[Span]:
        """Open a span."""
        self._previous = previous
        with self._recorded.tracer.start_as_current_span("requester", record_exception=False) as span:
            yield span

    def send(self, method: str, beast: str, body: dict[str, str] | None) -> list[dict[str, str]]:
        """Return names or raise the failure."""
        self.requests.append((method, beast, body, self._previous))
        if self.failure:
            raise self.failure
        return self.names if method == "GET" else []


class FakePublisher:
    """A publisher that confirms at once, or fails."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, float]] = []
        self.error: MessagingError | None = None

    def publish(self, text: str, *, delay_s: float = 0.0) -> "Future[None]":
        """Return a future with the result."""
        self.messages.append((text, delay_s))
        future: Future[None] = Future()
        if self.error:
            future.set_exception(self.error)
        else:
            future.set_result(None)
        return future


class Rig:
    """A request round with a fake client and publisher."""

    def __init__(
        self, strengths: dict[str, float] | None = None, of: EndpointSet = MYTHICAL, timeshift_min: int = 0
    ) -> None:
        self.recorded = Recorded()
        self.client, self.publisher = FakeClient(self.recorded), FakePublisher()
        self.danger = DangerGauge()
        self.request_round = RequestRound(
            of,
            cast(Client, self.client),
            cast(Publisher, self.publisher),
            self.danger,
            Faults(strengths or {}, random.Random(1)),  # noqa: S311 - not for secrets
            timeshift_min=timeshift_min,
        )

    @property
    def texts(self) -> list[str]:
        """Return the published messages."""
        return [text for text, _ in self.publisher.messages]

    @property
    def versions(self) -> list[object]:
        """Return the release of each span."""
        return [attributes(span)["service.version"] for span in self.recorded.spans]


def log_fields(record: logging.LogRecord) -> dict[str, str]:
    """Return the fields of a log line."""
    return cast("dict[str, str]", record.__dict__["fields"])


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Capture the lines from INFO on, each with the IDs of its span."""
    caplog.set_level(logging.INFO)
    caplog.handler.addFilter(TraceContextFilter())
    return caplog


@pytest.mark.parametrize(
    ("planned", "text"),
    [
        (GET, "GET /owlbear"),
        (POST, 'POST /owlbear {"name": "sly_otter"}'),
        (replace(POST, name='a"b'), 'POST /owlbear {"name": "a\\"b"}'),
    ],
)
def test_the_message_about_a_request_has_the_form_of_the_original(planned: Round, text: str) -> None:
    """Recorders parse one message per request."""
    rig = Rig()
    rig.request_round.run(planned)
    assert rig.texts == [text]


def test_after_a_get_the_first_name_may_be_deleted() -> None:
    """The DELETE is a separate request with a message and a span, which is linked to the GET."""
    rig = Rig()
    rig.client.names = [{"name": "shy_lynx"}, {"name": "other"}]
    rig.request_round.run(replace(GET, then_delete=True))
    assert rig.texts == ["GET /owlbear", "DELETE /owlbear shy_lynx"]
    (get, delete), requests = rig.recorded.spans, rig.client.requests
    assert requests[0] == ("GET", "owlbear", None, None)
    assert requests[1] == ("DELETE", "owlbear", {"name": "shy_lynx"}, get.get_span_context())
    assert delete.parent is None


def test_an_empty_list_of_names_causes_no_delete() -> None:
    """The table is empty."""
    rig = Rig()
    rig.request_round.run(replace(GET, then_delete=True))
    assert rig.texts == ["GET /owlbear"]


def test_each_request_links_to_the_previous_one() -> None:
    """This includes failed requests."""
    rig = Rig()
    rig.request_round.run(GET)
    rig.client.failure = RequestFailed("500", "the server answered 500")
    rig.request_round.run(POST)
    rig.client.failure = None
    rig.request_round.run(GET)
    first, second, _ = (span.get_span_context() for span in rig.recorded.spans)
    assert [previous for *_, previous in rig.client.requests] == [None, first, second]


@pytest.mark.parametrize("planned", [GET, POST, WRONG, replace(GET, then_delete=True)])
def test_a_failed_request_causes_no_message_and_no_second_request(
    planned: Round, lines: pytest.LogCaptureFixture
) -> None:
    """The recorder counts only successful requests. No exception is raised, so that the loop continues."""
    rig = Rig()
    rig.client.failure = RequestFailed("503", "the server answered 503")
    rig.request_round.run(planned)
    assert rig.texts == []
    assert len(rig.client.requests) == 1
    (line,) = lines.records
    assert line.levelname == "ERROR"
    assert (log_fields(line)["status"], log_fields(line)["error"]) == ("FAILURE", "the server answered 503")


def test_a_malformed_request_is_a_post_without_a_name() -> None:
    """The server has to respond with 400."""
    rig = Rig()
    rig.request_round.run(WRONG)
    assert [(method, body) for method, _, body, _ in rig.client.requests] == [("POST", {})]


def test_each_request_raises_the_danger_of_its_beast() -> None:
    """The gauge shows the sum."""
    rig = Rig()
    for beast in ("unicorn", "beholder"):
        rig.request_round.run(replace(GET, beast=beast))
    assert rig.danger.level() == 154


def test_a_log_line_has_the_request_and_its_duration(lines: pytest.LogCaptureFixture) -> None:
    """Dashboards and saved queries parse these names; the line has the trace ID of the request."""
    rig = Rig()
    rig.request_round.run(GET)
    (line,) = lines.records
    fields = log_fields(line)
    assert (line.levelname, line.getMessage()) == ("INFO", "request made")
    assert (fields["http.method"], fields["endpoint"], fields["status"]) == ("GET", "owlbear", "SUCCESS")
    assert fields["error"] is None
    assert re.fullmatch(r"\d+ms", fields["duration"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", fields["loggedtime"])
    assert line.__dict__["tags"] == {"beast": "owlbear"}
    (span,) = rig.recorded.spans
    assert line.__dict__["trace_id"] == f"{span.get_span_context().trace_id:032x}"


def test_the_boring_catalogue_tags_its_lines_as_endpoints(lines: pytest.LogCaptureFixture) -> None:
    """ENDPOINT_TYPE=BORING uses the tag `endpoint`."""
    Rig(of=BORING).request_round.run(replace(GET, beast="login"))
    assert lines.records[0].__dict__["tags"] == {"endpoint": "login"}


@pytest.mark.parametrize("timeshift_min", [0, 40])
def test_the_time_in_the_line_is_set_back_by_the_timeshift(timeshift_min: int, lines: pytest.LogCaptureFixture) -> None:
    """TIMESHIFT simulates logs of a machine whose clock is 40 minutes slow."""
    Rig(timeshift_min=timeshift_min).request_round.run(GET)
    written = datetime.fromisoformat(log_fields(lines.records[0])["loggedtime"])
    shift = datetime.now(UTC) - written
    assert timedelta(0) <= shift - timedelta(minutes=timeshift_min) < timedelta(seconds=30)


CHANCES = (0.1, 0.49, 0.51, 0.69, 0.71, 0.99)
OLD, NEW = "1.9.2", "2.0.0"


@pytest.mark.parametrize("strength", [0, 0.7, 1])
def test_successful_requests_come_half_from_each_release(strength: float) -> None:
    """The fault does not change this."""
    rig = Rig({NEW_VERSION_FAILS.name: strength})
    for chance in CHANCES:
        rig.request_round.run(replace(GET, version=chance))
    assert rig.versions == [NEW, NEW, OLD, OLD, OLD, OLD]


@pytest.mark.parametrize(
    ("strength", "versions"),
    [
        (0, [NEW, NEW, OLD, OLD, OLD, OLD]),
        (0.7, [NEW, NEW, NEW, NEW, OLD, OLD]),
        (1, [NEW, NEW, NEW, NEW, NEW, NEW]),
    ],
)
def test_the_fault_sets_the_share_of_failures_of_the_new_release(strength: float, versions: list[str]) -> None:
    """At 0 both releases fail equally; by default the new one has 70 % of the failures; at 1 all of them."""
    rig = Rig({NEW_VERSION_FAILS.name: strength})
    rig.client.failure = RequestFailed("500", "the server answered 500")
    for chance in CHANCES:
        rig.request_round.run(replace(POST, version=chance))
    assert rig.versions == versions


@pytest.mark.parametrize("strength", [0, 1, 10])
def test_only_messages_of_the_slow_beasts_are_delayed(strength: float) -> None:
    """The fault slow_publish delays them by 0.5 to 2.5 s times its value, for beholder and unicorn."""
    rig = Rig({SLOW_PUBLISH.name: strength})
    for beast in ("unicorn", "beholder", "owlbear", "manticore", "illithid"):
        rig.request_round.run(replace(GET, beast=beast))
    *slow, owlbear, manticore, illithid = [delay_s for _, delay_s in rig.publisher.messages]
    assert (owlbear, manticore, illithid) == (0, 0, 0)
    assert all(0.5 * strength <= delay_s <= 2.5 * strength for delay_s in slow)


def test_an_unconfirmed_message_is_logged_with_its_trace(lines: pytest.LogCaptureFixture) -> None:
    """The request itself succeeded, and the loop continues."""
    rig = Rig()
    rig.publisher.error = BrokerUnavailable("connection refused")
    rig.request_round.run(GET)
    lost, made = lines.records
    assert (lost.levelname, lost.getMessage()) == ("ERROR", "message not published")
    assert (log_fields(lost)["status"], log_fields(lost)["error"]) == ("FAILURE", "connection refused")
    assert lost.__dict__["trace_id"] == made.__dict__["trace_id"] != ""
    assert log_fields(made)["status"] == "SUCCESS"
