"""Data that browsers send with Grafana Faro are converted to log lines and spans, or rejected."""

import json
from email.message import Message
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.gateway.http_error import HttpError
from local.gateway.limits import Limits
from local.gateway.loki_to_otlp import export_request
from local.gateway.receive_faro import BURST, MOST_ITEMS, RATE, FaroReceiver, lines_of
from local.gateway.receive_otlp import OtlpReceiver
from local.gateway.records import LogLine
from local.gateway.telemetry_store import TelemetryStore
from local.gateway.web import Answer, Request

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PAGE = "http://localhost:4005"
NOW = "2026-01-02T03:04:05.678Z"
META = {
    "app": {"name": "mythical-browser", "version": "1.0", "environment": "production"},
    "session": {"id": "s1"},
    "page": {"url": f"{PAGE}/#unicorn"},
    "browser": {"name": "Chrome", "version": "1", "os": "Linux", "mobile": False},
    "view": {"name": "unicorn"},
}


class Receiver:
    """A receiver for the pages of one origin, its store, and its clock, which does not advance."""

    def __init__(self) -> None:
        self.now = 0.0
        self.store = TelemetryStore(Limits())
        self.forwarded: list[LogLine] = []
        otlp = OtlpReceiver(self.store, lambda *_: None, lambda *_: None)
        faro = FaroReceiver(self.store, otlp, self.forwarded.extend, [PAGE], lambda: self.now)
        self._handlers = {route.method: route.handler for route in faro.routes()}

    def send(self, body: bytes | dict[str, Any], origin: str | None = PAGE, method: str = "POST") -> Answer:
        """Send a request to /collect."""
        headers = Message()
        if origin:
            headers["Origin"] = origin
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._handlers[method](Request(headers, {}, (), content))

    @property
    def stored(self) -> int:
        """Return the number of lines and spans."""
        return len(list(self.store.lines())) + len(list(self.store.spans()))


def of_kind(kind: str, **item: object) -> str:
    """Return the text of the line of one item."""
    [line] = lines_of({"meta": META, kind: [{"timestamp": NOW, **item}]})
    return line.line


def test_each_kind_of_item_becomes_a_line_with_bounded_labels_and_its_trace_id() -> None:
    """Values of the page are only in the line, because a label for each value would be a series for each."""
    items = {kind: [{"timestamp": NOW, "trace": {"trace_id": TRACE, "span_id": SPAN}}] for kind in ("logs", "events")}
    lines = list(
        lines_of({"meta": META, **items, "measurements": [{"timestamp": NOW}], "exceptions": [{"timestamp": NOW}]})
    )
    assert [line.labels["kind"] for line in lines] == ["log", "event", "measurement", "exception"]
    for line in lines:
        assert set(line.labels) == {"service_name", "job", "kind"}
        assert (line.service, line.labels["job"]) == ("mythical-browser", "mythical-frontend")
        assert "session_id=s1" in line.line
        assert line.time_unix_nano == 1767323045678000000
    assert [(line.trace_id, line.span_id) for line in lines[:2]] == [(TRACE, SPAN)] * 2


def test_a_line_has_the_field_names_of_alloy() -> None:
    """The same query works on both."""
    assert 'kind=log message="a b" level=warn' in of_kind("logs", message="a b", level="warn")
    event = of_kind("events", name="click", domain="browser", attributes={"beast": "owlbear"})
    assert "event_name=click event_domain=browser event_data_beast=owlbear" in event
    assert "type=web-vitals value_lcp=120.5" in of_kind("measurements", type="web-vitals", values={"lcp": 120.5})
    frames = {"frames": [{"function": "add", "filename": "page.js", "lineno": 7, "colno": 3}]}
    error = of_kind("exceptions", type="TypeError", value="x is undefined", stacktrace=frames)
    assert "type=TypeError" in error
    assert "at add (page.js:7:3)" in error


def test_spans_and_lines_of_a_payload_are_stored_and_lines_forwarded() -> None:
    """The status is 202, as with Alloy."""
    receiver = Receiver()
    name = {"attributes": [{"key": "service.name", "value": {"stringValue": "mythical-browser"}}]}
    span = {"traceId": TRACE, "spanId": SPAN, "name": "HTTP GET", "startTimeUnixNano": "1", "endTimeUnixNano": "2"}
    traces = {"resourceSpans": [{"resource": name, "scopeSpans": [{"spans": [span]}]}]}
    response = receiver.send({"meta": META, "traces": traces, "events": [{"name": "click", "timestamp": NOW}]})
    assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (202, PAGE)
    assert [span.trace_id.hex() for span in receiver.store.spans()] == [TRACE]
    assert list(receiver.store.lines()) == receiver.forwarded
    assert receiver.stored == 2


def test_only_pages_of_the_origins_may_send() -> None:
    """A client without an Origin header is not a browser and is allowed to send."""
    receiver = Receiver()
    for method in ("OPTIONS", "POST"):
        with pytest.raises(HttpError) as rejection:
            receiver.send({"meta": META}, "http://elsewhere.example", method)
        assert rejection.value.status == 403
    assert receiver.send(b"", method="OPTIONS").headers["Access-Control-Allow-Origin"] == PAGE
    assert receiver.send({"meta": META}, None).headers == {}


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        b"[" * 100_000,
        b"\xff\xfe\x00",
        b"[]",
        b"{}",
        b'{"meta": 3}',
        b'{"meta": {}, "logs": 3}',
        b'{"meta": {}, "logs": [3]}',
        b'{"meta": {}, "logs": [{}]}',
        b'{"meta": {}, "logs": [{"timestamp": "99999-01-01"}]}',
        b'{"meta": {}, "traces": 3}',
        b'{"meta": {}, "traces": {"resourceSpans": 3}}',
    ],
)
def test_a_malformed_payload_is_rejected_completely(body: bytes) -> None:
    """The message is one line with the reason, and nothing is stored."""
    receiver = Receiver()
    with pytest.raises(HttpError) as rejection:
        receiver.send(body)
    assert rejection.value.status == 400
    assert "\n" not in rejection.value.message
    assert receiver.stored == 0


def test_a_payload_with_too_many_items_is_rejected() -> None:
    """A page sends at most a hundred at a time."""
    receiver = Receiver()
    with pytest.raises(HttpError) as rejection:
        receiver.send({"meta": META, "logs": [{"timestamp": NOW}] * (MOST_ITEMS + 1)})
    assert (rejection.value.status, receiver.stored) == (413, 0)


def test_requests_above_the_rate_limit_are_rejected() -> None:
    """The limit has a burst and a rate: one page cannot displace the telemetry of the services."""
    receiver = Receiver()
    for _ in range(BURST):
        assert receiver.send({"meta": META}).status == 202
    for _ in range(3):
        with pytest.raises(HttpError) as rejection:
            receiver.send({"meta": META})
        assert rejection.value.status == 429
    receiver.now = 1.0
    for _ in range(RATE):
        assert receiver.send({"meta": META}).status == 202
    with pytest.raises(HttpError):
        receiver.send({"meta": META})


def test_the_name_of_the_service_is_not_taken_from_the_payload() -> None:
    """Otherwise a page could create any number of services."""
    [line] = lines_of({"meta": {"app": {"name": "another"}}, "logs": [{"timestamp": NOW}]})
    assert (line.service, line.labels["service_name"]) == ("mythical-browser", "mythical-browser")


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.just("\ud800") | st.just(NOW) | st.integers(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
parts = st.sampled_from(["app", "session", "page", "browser", "view"])
fields = st.sampled_from(
    ["timestamp", "trace", "name", "type", "value", "values", "attributes", "stacktrace", "context"]
)
kinds = st.sampled_from(["logs", "events", "measurements", "exceptions", "traces"])
items = st.dictionaries(fields, json_values, max_size=5).map(lambda item: {"timestamp": NOW, **item})


@given(st.dictionaries(parts, json_values), st.dictionaries(kinds, st.lists(items, max_size=3) | json_values))
def test_any_json_is_either_stored_and_convertible_or_rejected(meta: object, content: dict[str, object]) -> None:
    """No content raises another exception, in the receiver or in the conversion to OTLP."""
    receiver = Receiver()
    try:
        receiver.send({"meta": meta, **content})
    except HttpError:
        assert receiver.stored == 0
    export_request(receiver.forwarded, {})
