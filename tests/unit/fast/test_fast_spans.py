"""Fast spans are exported as the SDK's own spans are."""

import logging
from collections.abc import Callable

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags, Tracer

from common.fast.spans import FastSpan, FastTracerProvider

REMOTE = SpanContext(5, 6, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _fast(stock: TracerProvider) -> FastTracerProvider:
    return FastTracerProvider(stock)


def _stock(stock: TracerProvider) -> TracerProvider:
    return stock


def _recorded(
    kind: Callable[[TracerProvider], FastTracerProvider | TracerProvider], work: Callable[[Tracer], object]
) -> list[ReadableSpan]:
    kept = InMemorySpanExporter()
    provider = kind(TracerProvider(shutdown_on_exit=False))
    provider.add_span_processor(SimpleSpanProcessor(kept))
    work(provider.get_tracer("test", "1", "https://schema"))
    return list(kept.get_finished_spans())


def _a_family(tracer: Tracer) -> None:
    above = trace.set_span_in_context(NonRecordingSpan(REMOTE))
    with tracer.start_as_current_span("root", above, SpanKind.SERVER, {"a": 1, "b": "two"}, start_time=17) as span:
        span.set_attribute("c", 3.5)
        span.set_attributes({"a": True, "d": ("x", "y")})
        span.add_event("came by", {"e": 1}, 18)
        span.update_name("renamed")
        links = [Link(REMOTE, {"why": "because"}), Link(SpanContext(0, 0, is_remote=False))]
        tracer.start_span("child", kind=SpanKind.CLIENT, links=links).end(99)
        span.set_status(Status(StatusCode.ERROR, "it broke"))


def _a_failure(tracer: Tracer) -> None:
    with pytest.raises(ValueError, match="no"), tracer.start_as_current_span("failing"):
        raise ValueError("no")


def _a_quiet_failure(tracer: Tracer) -> None:
    with (
        pytest.raises(ValueError, match="no"),
        tracer.start_as_current_span("failing", record_exception=False, set_status_on_exception=False),
    ):
        raise ValueError("no")


@pytest.mark.parametrize("work", [_a_family, _a_failure, _a_quiet_failure])
def test_a_fast_span_is_exported_as_the_sdk_s_span_is(work: Callable[[Tracer], object]) -> None:
    """Names, kinds, parents, attributes, links, events and status are the same, whoever made the span."""
    fast, stock = _recorded(_fast, work), _recorded(_stock, work)

    assert all(isinstance(span, FastSpan) for span in fast)
    assert [_told(span) for span in fast] == [_told(span) for span in stock]


def test_a_child_belongs_to_its_parent_s_trace() -> None:
    """A span below another has that one's trace and flags, an id of its own, and is its child."""
    child, root = _recorded(_fast, _a_family)

    assert child.parent == root.context
    assert root.parent == REMOTE
    assert child.context.trace_id == root.context.trace_id == REMOTE.trace_id
    assert child.context.trace_flags == root.context.trace_flags
    assert child.context.span_id != root.context.span_id


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, ParentBased(ALWAYS_OFF)])
def test_what_the_sampler_drops_is_not_recorded(sampler: Sampler) -> None:
    """A dropped span is one without content that still hands its trace on, unsampled."""
    tracer = FastTracerProvider(TracerProvider(sampler, shutdown_on_exit=False)).get_tracer("test")

    with tracer.start_as_current_span("root") as root:
        child = tracer.start_span("child")

    for span in (root, child):
        assert not span.is_recording()
        assert not span.get_span_context().trace_flags.sampled
    assert child.get_span_context().trace_id == root.get_span_context().trace_id


def test_an_ended_span_does_not_change() -> None:
    """The processors are given the span itself, so nothing may change it after its end."""

    def late(tracer: Tracer) -> None:
        span = tracer.start_span("s")
        span.end(7)
        logging.disable()
        try:
            span.set_attribute("late", 1)
            span.set_attributes({"late": 1})
            span.add_event("late")
            span.update_name("late")
            span.set_status(StatusCode.ERROR)
            span.end(8)
        finally:
            logging.disable(logging.NOTSET)

    (span,) = _recorded(_fast, late)

    assert (span.name, dict(span.attributes or {}), span.events, span.end_time) == ("s", {}, (), 7)
    assert span.status.status_code is StatusCode.UNSET


def _odd_values(tracer: Tracer) -> None:
    span = tracer.start_span("s", attributes={"list": ["a", "b"], "numbers": (1, 2), "nothing": None})
    span.set_attribute("mixed", [1, "a"])
    span.set_attribute("object", object())  # type: ignore[arg-type]
    span.set_attributes({"bytes": b"text", "fine": 1})
    span.end()


def test_values_of_other_types_are_treated_as_by_the_sdk(caplog: pytest.LogCaptureFixture) -> None:
    """Sequences are kept; what can't be exported is dropped, with a warning."""
    (fast,), (stock,) = _recorded(_fast, _odd_values), _recorded(_stock, _odd_values)
    assert dict(fast.attributes or {}) == dict(stock.attributes or {})
    assert caplog.records


def _states(tracer: Tracer) -> None:
    span = tracer.start_span("s")
    span.set_status(Status(StatusCode.ERROR, "first"))
    span.set_status(StatusCode.UNSET)
    span.set_status(StatusCode.OK)
    span.set_status(StatusCode.ERROR, "too late")
    span.end()


def test_a_status_of_ok_is_final() -> None:
    """As the specification says, and as the SDK does."""
    (fast,), (stock,) = _recorded(_fast, _states), _recorded(_stock, _states)
    assert fast.status.status_code is stock.status.status_code is StatusCode.OK


def test_a_link_that_is_added_later_is_kept_if_it_is_valid() -> None:
    """As by the SDK."""

    def link(tracer: Tracer) -> None:
        span = tracer.start_span("s")
        span.add_link(REMOTE, {"why": "because"})
        span.add_link(SpanContext(0, 0, is_remote=False))
        span.end()

    (fast,), (stock,) = _recorded(_fast, link), _recorded(_stock, link)
    assert [(each.context, dict(each.attributes or {})) for each in fast.links] == [
        (each.context, dict(each.attributes or {})) for each in stock.links
    ]


def _told(span: ReadableSpan) -> list[object]:
    """What a span tells, without what is random or the time of the test."""
    context = span.context
    return [
        span.name,
        span.kind,
        dict(span.attributes or {}),
        [
            (each.name, sorted(each.attributes or {}), (each.attributes or {}).get("exception.type"))
            for each in span.events
        ],
        [(link.context, dict(link.attributes or {})) for link in span.links],
        (span.status.status_code, span.status.description),
        span.parent.is_remote if span.parent else None,
        (context.trace_flags, context.trace_state, context.is_remote),
        (span.instrumentation_scope, span.resource.attributes["telemetry.sdk.name"]),
        (span.dropped_attributes, span.dropped_events, span.dropped_links),
    ]
