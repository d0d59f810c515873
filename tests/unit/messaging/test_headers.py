"""Headers of any sender neither raise an error nor are copied if they are dangerous."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pika import BasicProperties  # type: ignore[import-untyped]  # pika ships no py.typed

from common.messaging import handler
from common.messaging.handler import Delivery
from common.messaging.tolerant import UNREADABLE

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

# Values that pika's decoder can return for an AMQP table, and more.
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.decimals()
    | st.datetimes(timezones=st.just(UTC))
)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)
tables = st.none() | st.dictionaries(st.text(max_size=300) | st.binary(max_size=20), values, max_size=8)


def delivery(properties: BasicProperties) -> Delivery:
    """Return a delivery with these properties."""
    return Delivery(None, 1, False, properties, b"")


def copied(properties: BasicProperties, *, attempts: int, reason: str, redeliveries: int = 0) -> BasicProperties:
    """Return the properties of its copy in another queue."""
    return handler.copied(delivery(properties), attempts=attempts, redeliveries=redeliveries, reason=reason)


@pytest.mark.parametrize(
    ("found", "attempts"),
    [({}, 0), ({"x-attempts": 3}, 3), ({"x-attempts": -1}, 0), ({"x-attempts": 2**62}, handler.MAX_COUNT)]
    + [({"x-attempts": invalid}, 0) for invalid in (True, "3", b"3", None, [3], {"a": 3}, Decimal(3))],
)
def test_attempts_are_counted_from_the_header_and_invalid_values_count_as_0(
    found: dict[str, Any], attempts: int
) -> None:
    """An invalid header of another sender neither raises an error nor causes endless retries."""
    assert delivery(BasicProperties(headers=found)).attempt == attempts + 1
    assert delivery(BasicProperties(headers={"x-redeliveries": found.get("x-attempts")})).redeliveries == attempts


def test_only_text_reaches_the_trace_propagator() -> None:
    """A traceparent that is a number or bytes is left out, because a propagator would raise an error."""
    assert handler.carrier({"traceparent": 1, "tracestate": b"a=b", "other": "text"}) == {"other": "text"}


def test_keys_that_are_not_text_are_left_out() -> None:
    """pika returns the key of a header as bytes if it is not UTF-8."""
    assert delivery(BasicProperties(headers={b"\xff": 1, "a": 2})).headers == {"a": 2}
    assert delivery(BasicProperties()).headers == {}


def test_an_id_that_is_not_text_is_ignored() -> None:
    """pika returns a message_id as bytes if it is not UTF-8."""
    assert delivery(BasicProperties(message_id=b"\xff")).message_id is None
    assert delivery(BasicProperties(message_id="a")).message_id == "a"


def test_a_moved_message_keeps_the_properties_of_its_sender() -> None:
    """ID, type, trace context, and other headers are kept; attempts and reason are added; the copy is persistent."""
    sent = BasicProperties(
        content_type="text/plain",
        message_id="m1",
        correlation_id="c1",
        headers={"traceparent": TRACEPARENT, "theirs": [1, "two", {"three": datetime(2026, 1, 1, tzinfo=UTC)}]},
    )
    moved = copied(sent, attempts=2, reason="ValueError: no")
    assert (moved.message_id, moved.correlation_id, moved.content_type) == ("m1", "c1", "text/plain")
    assert moved.headers == {**sent.headers, "x-attempts": 2, "x-reason": "ValueError: no"}
    assert moved.delivery_mode == 2


def test_a_moved_message_has_no_properties_that_control_the_broker() -> None:
    """user_id would close the channel, expiration would shorten the delay, and CC would copy to other queues."""
    orders = {"CC": ["messages"], "BCC": ["messages"], "x-death": [], "x-first-death-queue": "q", UNREADABLE: True}
    sent = BasicProperties(user_id="another", expiration="1", priority=9, headers=orders)
    moved = copied(sent, attempts=1, reason="r")
    assert (moved.user_id, moved.expiration, moved.priority) == (None, None, None)
    assert moved.headers == {"x-attempts": 1, "x-reason": "r"}
    assert sent.headers == orders, "the delivery's own headers were changed"


def test_headers_that_are_too_large_are_left_out_except_for_the_trace() -> None:
    """A header frame above the broker's frame_max would close the connection each time the message is moved."""
    sent = BasicProperties(message_id="m1", headers={"big": "x" * 100_000, "traceparent": TRACEPARENT})
    moved = copied(sent, attempts=1, reason="r")
    assert moved.headers == {"x-attempts": 1, "x-reason": "r", "traceparent": TRACEPARENT}
    assert moved.message_id == "m1"


def test_a_reason_is_one_line_of_bounded_length() -> None:
    """It contains an exception's text, which may quote the message."""
    reason = copied(BasicProperties(), attempts=1, reason="a\nb " + "x" * 1000).headers["x-reason"]
    assert reason.startswith("a b x")
    assert len(reason) == 300


@settings(max_examples=50)
@given(found=tables)
def test_a_message_with_any_headers_can_be_moved(found: dict[Any, Any] | None) -> None:
    """Headers that cannot be encoded are left out; otherwise the message would be redelivered forever."""
    moved = copied(BasicProperties(headers=found), attempts=1, reason="r")
    assert sum(map(len, moved.encode())) <= handler.MAX_HEADER_BYTES
    assert moved.headers["x-attempts"] == 1
    handler.carrier(delivery(BasicProperties(headers=found)).headers)
