"""The gateway's window stores recent telemetry, counts it, and evicts it within its limits."""

import dataclasses

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from local.gateway.bounded_map import BoundedMap
from local.gateway.limits import Limits
from local.gateway.records import LogLine
from local.gateway.telemetry_store import TelemetryStore

TRACE = b"\x01" * 16


class Clock:
    """A clock that a test sets, in seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time that the test set."""
        return self.now


def span(
    number: int,
    kind: "Span.SpanKind.ValueType" = Span.SPAN_KIND_INTERNAL,
    parent: int | None = None,
    trace: bytes = TRACE,
    **attributes: str,
) -> Span:
    """Return a span whose ID is `number`; attribute names are written with __ for a dot."""
    return Span(
        trace_id=trace,
        span_id=number.to_bytes(8, "big"),
        parent_span_id=b"" if parent is None else parent.to_bytes(8, "big"),
        name=f"span {number}",
        kind=kind,
        start_time_unix_nano=number,
        end_time_unix_nano=number + 10,
        attributes=[
            KeyValue(key=key.replace("__", "."), value=AnyValue(string_value=value))
            for key, value in attributes.items()
        ],
    )


def line(text: str) -> LogLine:
    """Return a log line of the server."""
    return LogLine(1, "mythical-server", {}, text, {}, {}, "", "", "loki")


def hops(window: TelemetryStore) -> dict[tuple[str, str, str], int]:
    """Return the hops so far with their counts."""
    return {(hop["from"], hop["to"], hop["kind"]): hop["count"] for hop in window.summary()["hops"]}


def cells(window: TelemetryStore) -> dict[tuple[str, str], dict[str, float]]:
    """Return the cells of the table by service and signal."""
    return {(cell["service"], cell["signal"]): cell for cell in window.summary()["cells"]}


def test_bounded_evicts_the_oldest_by_number_and_by_bytes() -> None:
    """Both limits evict the oldest entry, and evictions are counted."""
    held: BoundedMap[str, str] = BoundedMap(3, 100)
    for name in "abcd":
        held.put(name, name, 10)
    assert list(held.newest_first()) == ["d", "c", "b"]
    assert held.put("e", "e", 90) == ["b", "c"]
    assert held.figures() == {"held": 2, "limit": 3, "bytes": 100, "byte_limit": 100, "evicted": 3}


def test_bounded_replaces_a_key_without_counting_it_twice() -> None:
    """A new value of a known key replaces the old value and its size, and becomes the newest."""
    held: BoundedMap[str, str] = BoundedMap(3, 100)
    held.put("a", "old", 40)
    held.put("b", "b", 10)
    assert held.put("a", "new", 20) == []
    assert list(held.newest_first()) == ["new", "b"]
    assert held.bytes == 30
    assert held.pop("a") == "new"
    assert held.bytes == 10


def test_an_entry_larger_than_the_window_evicts_all_others() -> None:
    """The newest entry is never evicted, even if it is too large; the next one evicts it."""
    held: BoundedMap[str, str] = BoundedMap(3, 100)
    held.put("a", "a", 10)
    assert held.put("huge", "huge", 1000) == ["a"]
    assert held.put("b", "b", 10) == ["huge"]


def test_evicted_spans_are_removed_from_their_trace_and_empty_traces_are_deleted() -> None:
    """Otherwise, the index of traces would fill the memory."""
    window = TelemetryStore(dataclasses.replace(Limits(), spans=3))
    window.add_spans("a", {}, "", [span(1), span(2), span(3, trace=b"\x02" * 16), span(4, trace=b"\x03" * 16)])
    assert [record.name for record in window.trace(TRACE)] == ["span 2"]
    window.add_spans("a", {}, "", [span(5, trace=b"\x03" * 16)])
    assert window.trace(TRACE) == []
    assert [len(spans) for spans in window.traces()] == [2, 1]


def test_log_lines_are_limited_by_their_bytes() -> None:
    """A few large lines evict as many small ones as needed."""
    window = TelemetryStore(dataclasses.replace(Limits(), line_bytes=10_000))
    for number in range(20):
        window.add_lines([line(f"{number} " + "x" * 2000)])
    assert [held.line[:2] for held in window.lines()] == ["19", "18", "17", "16"]
    assert window.summary()["memory"]["lines"]["evicted"] == 16


def test_rate_and_age_follow_the_clock() -> None:
    """The rate is that of the last 20 s, or of the time since the first arrival if that is shorter."""
    clock = Clock()
    window = TelemetryStore(Limits(), clock)
    for _ in range(10):
        clock.now += 1
        window.add_lines([line("x")] * 30)
    assert cells(window)["mythical-server", "logs"]["rate_per_s"] == 33.33
    clock.now += 15
    figures = cells(window)["mythical-server", "logs"]
    assert (figures["count"], figures["age_s"]) == (300, 15)
    assert figures["rate_per_s"] == 9.0
    clock.now += 60
    assert cells(window)["mythical-server", "logs"]["rate_per_s"] == 0


def test_service_names_above_the_limit_share_one_row() -> None:
    """A sender with a new service name in each request cannot fill the memory with counters."""
    window = TelemetryStore(dataclasses.replace(Limits(), names=2))
    for number in range(100):
        window.add_spans(f"service-{number}", {}, "", [span(number)])
    counted = cells(window)
    assert len(counted) == 9
    assert counted["(other)", "traces"]["count"] == 92


def test_a_server_span_below_a_client_span_of_another_service_is_an_http_hop() -> None:
    """The caller is the service of the parent, independent of the order of arrival."""
    window = TelemetryStore(Limits())
    window.add_spans("mythical-requester", {}, "", [span(1, Span.SPAN_KIND_CLIENT)])
    window.add_spans(
        "mythical-server", {}, "", [span(2, Span.SPAN_KIND_SERVER, 1), span(12, Span.SPAN_KIND_SERVER, 11)]
    )
    window.add_spans("mythical-requester", {}, "", [span(11, Span.SPAN_KIND_CLIENT)])
    assert hops(window) == {("mythical-requester", "mythical-server", "http"): 2}


def test_a_client_span_with_a_database_is_a_sql_hop_in_either_convention() -> None:
    """db.system and db.system.name both name the peer, and a span with both is one call."""
    window = TelemetryStore(Limits())
    both = span(3, Span.SPAN_KIND_CLIENT, db__system="postgresql", db__system__name="postgresql")
    old = span(4, Span.SPAN_KIND_CLIENT, db__system="postgresql")
    new = span(5, Span.SPAN_KIND_CLIENT, db__system__name="postgresql")
    window.add_spans("mythical-server", {}, "", [both, old, new])
    assert hops(window) == {("mythical-server", "postgresql", "sql"): 3}


def test_a_message_is_two_hops_through_the_broker() -> None:
    """The producer span is the publish; a delivery is a consumer span below a producer span."""
    window = TelemetryStore(Limits())
    producer = span(1, Span.SPAN_KIND_PRODUCER, messaging__system="rabbitmq")
    consumer = span(2, Span.SPAN_KIND_CONSUMER, 1, messaging__system="rabbitmq")
    orphan = span(9, Span.SPAN_KIND_CONSUMER, 8, messaging__system="rabbitmq")
    window.add_spans("mythical-recorder", {}, "", [consumer, orphan])
    assert hops(window) == {}
    window.add_spans("mythical-requester", {}, "", [producer])
    assert hops(window) == {
        ("mythical-requester", "rabbitmq", "publish"): 1,
        ("rabbitmq", "mythical-recorder", "deliver"): 1,
    }


def test_spans_within_one_service_are_not_a_hop() -> None:
    """A service that calls itself, or child spans of its server span, are not an edge."""
    window = TelemetryStore(Limits())
    window.add_spans(
        "mythical-server",
        {},
        "",
        [span(1, Span.SPAN_KIND_CLIENT), span(2, Span.SPAN_KIND_SERVER, 1), span(3, parent=2)],
    )
    assert hops(window) == {}


def test_the_total_number_of_waiting_children_is_limited() -> None:
    """The oldest are evicted, even if only a few wait for each parent."""
    window = TelemetryStore(dataclasses.replace(Limits(), spans=10))
    for parent in range(1, 6):
        window.add_spans("b", {}, "", [span(100 * parent + n, Span.SPAN_KIND_SERVER, parent) for n in range(5)])
    window.add_spans("a", {}, "", [span(parent, Span.SPAN_KIND_CLIENT) for parent in range(1, 6)])
    assert hops(window) == {("a", "b", "http"): 10}


def test_ids_that_are_too_long_are_not_a_hop() -> None:
    """They are invalid, and the index would have to keep them until their parent arrives."""
    window = TelemetryStore(Limits())
    called = span(2, Span.SPAN_KIND_SERVER, 1, trace=b"t" * 17)
    window.add_spans("b", {}, "", [called])
    window.add_spans("a", {}, "", [span(1, Span.SPAN_KIND_CLIENT, trace=b"t" * 17)])
    assert hops(window) == {}


def test_waiting_children_per_parent_are_limited() -> None:
    """Of many spans below a missing parent, at most 100 count when it arrives."""
    window = TelemetryStore(Limits())
    window.add_spans("b", {}, "", [span(number, Span.SPAN_KIND_SERVER, 1) for number in range(2, 500)])
    window.add_spans("a", {}, "", [span(1, Span.SPAN_KIND_CLIENT)])
    assert hops(window) == {("a", "b", "http"): 100}
