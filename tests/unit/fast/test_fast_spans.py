"""Fast spans are exported like the SDK's spans."""

import asyncio
import json
from collections.abc import Callable

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, DEFAULT_ON, Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    TraceState,
)

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


def _parent_and_child(tracer: Tracer) -> None:
    above = trace.set_span_in_context(NonRecordingSpan(REMOTE))
    with tracer.start_as_current_span("root", above, SpanKind.SERVER, {"a": 1, "b": "two"}, start_time=17) as span:
        span.set_attribute("c", 3.5)
        span.set_attributes({"a": True, "d": ("x", "y")})
        span.add_event("came by", {"e": 1}, 18)
        span.update_name("renamed")
        links = [Link(REMOTE, {"why": "because"}), Link(SpanContext(0, 0, is_remote=False))]
        tracer.start_span("child", kind=SpanKind.CLIENT, links=links).end(99)
        span.set_status(Status(StatusCode.ERROR, "it broke"))


def _failure(tracer: Tracer) -> None:
    with pytest.raises(ValueError, match="no"), tracer.start_as_current_span("failing"):
        raise ValueError("no")


def _unrecorded_failure(tracer: Tracer) -> None:
    with (
        pytest.raises(ValueError, match="no"),
        tracer.start_as_current_span("failing", record_exception=False, set_status_on_exception=False),
    ):
        raise ValueError("no")


@pytest.mark.parametrize("work", [_parent_and_child, _failure, _unrecorded_failure])
def test_a_fast_span_is_exported_like_a_span_of_the_sdk(work: Callable[[Tracer], object]) -> None:
    """Names, kinds, parents, attributes, links, events, and status are the same."""
    fast, stock = _recorded(_fast, work), _recorded(_stock, work)

    assert all(isinstance(span, FastSpan) for span in fast)
    assert [_comparable(span) for span in fast] == [_comparable(span) for span in stock]


def test_a_child_belongs_to_the_trace_of_its_parent() -> None:
    """A child has the trace and flags of its parent and a new ID."""
    child, root = _recorded(_fast, _parent_and_child)

    assert child.parent == root.context
    assert root.parent == REMOTE
    assert child.context.trace_id == root.context.trace_id == REMOTE.trace_id
    assert child.context.trace_flags == root.context.trace_flags
    assert child.context.span_id != root.context.span_id


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, ParentBased(ALWAYS_OFF)])
def test_a_span_that_the_sampler_drops_is_not_recorded(sampler: Sampler) -> None:
    """A dropped span has no content but propagates its trace, unsampled."""
    tracer = FastTracerProvider(TracerProvider(sampler, shutdown_on_exit=False)).get_tracer("test")

    with tracer.start_as_current_span("root") as root:
        child = tracer.start_span("child")

    for span in (root, child):
        assert not span.is_recording()
        assert not span.get_span_context().trace_flags.sampled
    assert child.get_span_context().trace_id == root.get_span_context().trace_id


def test_an_ended_span_does_not_change(caplog: pytest.LogCaptureFixture) -> None:
    """Processors get the span itself, so nothing may change it after its end; each attempt is logged."""

    def late(tracer: Tracer) -> None:
        span = tracer.start_span("s")
        span.end(7)
        span.set_attribute("late", 1)
        span.set_attributes({"late": 1})
        span.add_event("late")
        span.add_link(REMOTE)
        span.update_name("late")
        span.set_status(StatusCode.ERROR)
        span.end(8)

    (span,) = _recorded(_fast, late)

    assert (span.name, dict(span.attributes or {}), span.events, span.links, span.end_time) == ("s", {}, (), (), 7)
    assert span.status.status_code is StatusCode.UNSET
    assert len(caplog.records) == 7


def _failure_in_a_plain_block(tracer: Tracer) -> None:
    with pytest.raises(ValueError, match="no"), tracer.start_span("failing"):
        raise ValueError("no")
    with pytest.raises(ValueError, match="no"), tracer.start_span("quiet", None, SpanKind.CLIENT, None, (), 0, False):
        raise ValueError("no")


def _system_exit(tracer: Tracer) -> None:
    with pytest.raises(SystemExit), tracer.start_as_current_span("leaving"):
        raise SystemExit(3)


def _span_that_continues(tracer: Tracer) -> None:
    with tracer.start_as_current_span("s", end_on_exit=False) as span:
        pass
    assert span.is_recording()
    span.end(0)


def _above_the_limits(tracer: Tracer) -> None:
    links = [Link(SpanContext(number, 1, is_remote=False)) for number in range(1, 140)]
    span = tracer.start_span("s", attributes={f"key{number}": number for number in range(130)}, links=links)
    span.set_attributes({f"late{number}": number for number in range(5)})
    for number in range(131):
        span.add_event(f"event{number}", {f"key{each}": each for each in range(130)}, number)
    span.add_link(REMOTE, {f"key{each}": each for each in range(130)})
    span.end()


def _odd_links(tracer: Tracer) -> None:
    unknown = SpanContext(0, 0, is_remote=False)
    state = SpanContext(0, 0, is_remote=False, trace_state=TraceState([("vendor", "x")]))
    tracer.start_span("s", links=[Link(unknown, {"why": ["because"]}), Link(state), Link(unknown)]).end()


def _odd_names(tracer: Tracer) -> None:
    span = tracer.start_span("s", attributes={"": 1, "fine": 2})
    span.set_attribute("", 1)
    span.set_attributes({"": 1, "also fine": 2})
    span.end()


@pytest.mark.parametrize(
    "work",
    [
        _failure_in_a_plain_block,
        _system_exit,
        _span_that_continues,
        _above_the_limits,
        _odd_links,
    ],
)
def test_edge_cases_match_the_sdk(work: Callable[[Tracer], object]) -> None:
    """Exceptions that leave a block, the default limits, and links without a target."""
    assert [_comparable(span) for span in _recorded(_fast, work)] == [
        _comparable(span) for span in _recorded(_stock, work)
    ]


def test_attributes_without_a_usable_name_are_treated_as_by_the_sdk() -> None:
    """An empty name is dropped."""
    (fast,), (stock,) = _recorded(_fast, _odd_names), _recorded(_stock, _odd_names)
    assert dict(fast.attributes or {}) == dict(stock.attributes or {})
    assert "" not in (fast.attributes or {})


def _decorated(tracer: Tracer) -> None:
    @tracer.start_as_current_span("called", attributes={"a": 1})
    def work() -> bool:
        return trace.get_current_span().is_recording()

    @tracer.start_as_current_span("awaited")
    async def later() -> bool:
        await asyncio.sleep(0)
        return trace.get_current_span().is_recording()

    assert [work(), work(), asyncio.run(later()), asyncio.run(later())] == [True] * 4


def test_a_decorator_makes_a_span_for_each_call() -> None:
    """The API documents it for functions and coroutines."""
    fast, stock = _recorded(_fast, _decorated), _recorded(_stock, _decorated)
    assert [span.name for span in fast] == ["called", "called", "awaited", "awaited"]
    assert [_comparable(span) for span in fast] == [_comparable(span) for span in stock]


def test_a_fast_span_can_be_printed() -> None:
    """ConsoleSpanExporter prints spans as JSON."""
    child, _ = (json.loads(span.to_json()) for span in _recorded(_fast, _parent_and_child))
    stock, _ = (json.loads(span.to_json()) for span in _recorded(_stock, _parent_and_child))
    assert child.keys() == stock.keys()
    assert (child["name"], child["kind"], len(child["links"])) == ("child", "SpanKind.CLIENT", 1)


class _RecordOnly(Sampler):
    """Records every span and samples none."""

    def should_sample(self, *_: object, **__: object) -> SamplingResult:
        """Return the decision."""
        return SamplingResult(Decision.RECORD_ONLY)

    def get_description(self) -> str:
        """Return the name."""
        return "RecordOnly"


@pytest.mark.parametrize(
    "sampler",
    [ParentBased(_RecordOnly()), ParentBased(DEFAULT_ON, local_parent_sampled=ALWAYS_OFF)],
    ids=["recorded only", "children dropped"],
)
def test_the_sampler_is_called_if_it_may_decide_differently(sampler: Sampler) -> None:
    """The call is omitted only for a child of a sampled span, and if the sampler samples all of those."""
    recording = []
    for kind in (_fast, _stock):
        tracer = kind(TracerProvider(sampler, shutdown_on_exit=False)).get_tracer("test")
        with tracer.start_as_current_span("root") as root:
            child = tracer.start_span("child")
        recording.append((root.get_span_context().trace_flags, child.is_recording()))
    assert recording[0] == recording[1]
    assert not recording[0][1]


def _odd_values(tracer: Tracer) -> None:
    span = tracer.start_span("s", attributes={"list": ["a", "b"], "numbers": (1, 2), "nothing": None})
    span.set_attribute("mixed", [1, "a"])
    span.set_attribute("object", object())  # type: ignore[arg-type]
    span.set_attributes({"bytes": b"text", "fine": 1})
    span.end()


def test_values_of_other_types_are_treated_as_by_the_sdk(caplog: pytest.LogCaptureFixture) -> None:
    """Sequences are kept; values that cannot be exported are dropped with a warning."""
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
    """The specification requires it, and the SDK does it."""
    (fast,), (stock,) = _recorded(_fast, _states), _recorded(_stock, _states)
    assert fast.status.status_code is stock.status.status_code is StatusCode.OK


def test_a_link_added_later_is_kept_if_it_is_valid() -> None:
    """The SDK does the same."""

    def link(tracer: Tracer) -> None:
        span = tracer.start_span("s")
        span.add_link(REMOTE, {"why": "because"})
        span.add_link(SpanContext(0, 0, is_remote=False))
        span.end()

    (fast,), (stock,) = _recorded(_fast, link), _recorded(_stock, link)
    assert [(each.context, dict(each.attributes or {})) for each in fast.links] == [
        (each.context, dict(each.attributes or {})) for each in stock.links
    ]


def _comparable(span: ReadableSpan) -> list[object]:
    """Return the content of a span without random values and times."""
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
