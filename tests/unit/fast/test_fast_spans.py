"""Lean spans tell what the SDK's own spans tell."""

import logging
from collections.abc import Callable

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, DEFAULT_ON, ParentBased, Sampler
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags, Tracer

from common.fast.spans import FastSpan, FastTracerProvider

REMOTE = SpanContext(5, 6, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))


def _recorded(kind: type[TracerProvider], work: Callable[[Tracer], object]) -> list[ReadableSpan]:
    kept = InMemorySpanExporter()
    provider = kind(shutdown_on_exit=False)
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
def test_a_lean_span_says_what_the_sdk_s_span_says(work: Callable[[Tracer], object]) -> None:
    """Names, kinds, parents, attributes, links, events and status are the same, whoever made the span."""
    lean, usual = _recorded(FastTracerProvider, work), _recorded(TracerProvider, work)

    assert all(isinstance(span, FastSpan) for span in lean)
    assert [_told(span) for span in lean] == [_told(span) for span in usual]


def test_a_child_belongs_to_its_parent_s_trace() -> None:
    """A span below another has that one's trace and flags, an id of its own, and is its child."""
    child, root = _recorded(FastTracerProvider, _a_family)

    assert child.parent == root.context
    assert root.parent == REMOTE
    assert child.context.trace_id == root.context.trace_id == REMOTE.trace_id
    assert child.context.trace_flags == root.context.trace_flags
    assert child.context.span_id != root.context.span_id


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, ParentBased(ALWAYS_OFF)])
def test_what_the_sampler_drops_is_not_recorded(sampler: Sampler) -> None:
    """A dropped span is one without content that still hands its trace on, unsampled."""
    tracer = FastTracerProvider(sampler=sampler, shutdown_on_exit=False).get_tracer("test")

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

    (span,) = _recorded(FastTracerProvider, late)

    assert (span.name, dict(span.attributes or {}), span.events, span.end_time) == ("s", {}, (), 7)
    assert span.status.status_code is StatusCode.UNSET


def test_a_limit_that_is_set_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT and its like are the SDK's to apply, so its spans are used."""
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "3")
    provider = FastTracerProvider(sampler=DEFAULT_ON, span_limits=SpanLimits(), shutdown_on_exit=False)

    span = provider.get_tracer("test").start_span("s", attributes={"long": "abcdef"})

    assert isinstance(span, Span)
    assert dict(span.attributes or {}) == {"long": "abc"}


def _told(span: ReadableSpan) -> list[object]:
    """What a span tells, without what is random or the time of the test."""
    context = span.context
    return [
        span.name,
        span.kind,
        dict(span.attributes or {}),
        [(event.name, dict(event.attributes or {}).get("exception.type")) for event in span.events],
        [(link.context, dict(link.attributes or {})) for link in span.links],
        (span.status.status_code, span.status.description),
        span.parent.is_remote if span.parent else None,
        (context.trace_flags, context.trace_state, context.is_remote),
        (span.instrumentation_scope, span.resource.attributes["telemetry.sdk.name"]),
        (span.dropped_attributes, span.dropped_events, span.dropped_links),
    ]
