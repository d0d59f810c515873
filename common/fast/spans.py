"""Spans at a third of the SDK's price: attributes in a plain dictionary, and no copy when a span ends.

The SDK checks and copies each attribute of each span under a lock, since it cannot know who calls. Here every attribute
is a string or a number that this suite names, so what is left is what the SDK would have made of them. Sampler, ids,
processors and resource stay the SDK's own, and where a limit for spans is set, its spans do as well.
"""

from collections.abc import Mapping, Sequence
from threading import Lock
from time import time_ns
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import Span, SpanLimits, Tracer, TracerProvider
from opentelemetry.sdk.trace.sampling import Decision, ParentBased, SamplingResult
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.util.types import AnyValue, Attributes

# The SDK's own limit for attributes, events and links, and what a status is before it is set.
USUAL = 128
UNSET = trace.Status()


class FastSpan(Span):
    """A span of the SDK that takes attributes as they come and shows itself to the processors instead of a copy."""

    # What no span of a tracer differs in is said once, in a class of the tracer's own; see `of`. What a span begins
    # with stands here, so that its constructor need not say it.
    _status = UNSET
    _start_time = _end_time = None

    @classmethod
    def of(cls, tracer: Tracer) -> "type[FastSpan]":
        """Give the class of a tracer's spans."""
        constants = {
            "_resource": tracer.resource,
            "_instrumentation_info": tracer.instrumentation_info,
            "_instrumentation_scope": tracer._instrumentation_scope,
            "_span_processor": tracer.span_processor,
            "_limits": tracer._span_limits,
        }
        made: type[FastSpan] = type(cls.__name__, (cls,), constants)
        return made

    def __init__(  # noqa: PLR0917 - called once, in one place, for every span
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: Attributes,
        links: Sequence[Link] | None,
        record_exception: bool,
        set_status_on_exception: bool,
    ) -> None:
        # The fields of the SDK's ReadableSpan and Span, without their constructors, which cost more than all the rest.
        self._name = name
        self._context = context
        self._parent = parent
        self._kind = kind
        self._record_exception = record_exception
        self._set_status_on_exception = set_status_on_exception
        self._lock = Lock()  # for what is inherited: events, links, status, name
        self._values: dict[str, AnyValue] = dict(attributes) if attributes else {}
        self._attributes = self._values
        self._events: list[Any] = []
        self._links = [link for link in links if link.context.is_valid] if links else []

    def set_attribute(self, key: str, value: AnyValue) -> None:
        """Set one attribute; after the end of the span nothing happens."""
        if self._end_time is None:
            self._values[key] = value

    def set_attributes(self, attributes: Mapping[str, AnyValue]) -> None:
        """Set several."""
        if self._end_time is None:
            self._values.update(attributes)

    def start(self, start_time: int | None = None, parent_context: Context | None = None) -> None:
        """Begin, at `start_time` (ns since 1970) or now."""
        self._start_time = start_time or time_ns()
        self._span_processor.on_start(self, parent_context=parent_context)

    def end(self, end_time: int | None = None) -> None:
        """End, once: from here on nothing changes, so the processors need no copy."""
        if self._end_time is None:
            self._end_time = end_time or time_ns()
            self._span_processor.on_end(self)


class FastTracer(trace.Tracer):
    """Starts spans by the rules of the SDK's tracer, with that one's sampler, ids and processors."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._ids = tracer.id_generator
        self._span = FastSpan.of(tracer)
        # What is below a recorded span of this process is recorded, by every sampler that OTEL_TRACES_SAMPLER can name
        # with "parentbased": no need to ask.
        self._below_is_sampled = type(tracer.sampler) is ParentBased

    def start_span(  # noqa: PLR0917 - the API's signature
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> trace.Span:
        """Start a span below the current one of `context`; see the SDK's tracer."""
        above = trace.get_current_span(context)
        parent: SpanContext | None = above.get_span_context()
        if parent is not None and self._below_is_sampled and isinstance(above, FastSpan):
            trace_id, flags = parent.trace_id, parent.trace_flags
            state: TraceState | None = parent.trace_state
        else:
            if parent is not None and parent.is_valid:
                trace_id, random = parent.trace_id, parent.trace_flags.random_trace_id
            else:
                parent, trace_id, random = None, self._ids.generate_trace_id(), self._ids.is_trace_id_random()
            verdict = self._tracer.sampler.should_sample(context, trace_id, name, kind, attributes, links)
            flags, state, attributes = _flags(verdict, random=random), verdict.trace_state, verdict.attributes
            if verdict.decision is Decision.DROP:
                return NonRecordingSpan(SpanContext(trace_id, self._ids.generate_span_id(), False, flags, state))
        span: FastSpan = object.__new__(self._span)  # the SDK's own asks whether it was called by a tracer
        span.__init__(  # type: ignore[misc]
            name,
            SpanContext(trace_id, self._ids.generate_span_id(), False, flags, state),
            parent,
            kind,
            attributes,
            links,
            record_exception,
            set_status_on_exception,
        )
        span.start(start_time, context)
        return span

    def start_as_current_span(  # noqa: PLR0917 - the API's signature
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> Any:
        """Start a span and make it the current one of the block; see the SDK's tracer."""
        span = self.start_span(
            name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception
        )
        return trace.use_span(
            span,
            end_on_exit=end_on_exit,
            record_exception=record_exception,
            set_status_on_exception=set_status_on_exception,
        )


def _flags(verdict: SamplingResult, *, random: bool) -> TraceFlags:
    sampled = verdict.decision is Decision.RECORD_AND_SAMPLE
    return TraceFlags((TraceFlags.SAMPLED if sampled else 0) | (TraceFlags.RANDOM_TRACE_ID if random else 0))


class FastTracerProvider(TracerProvider):
    """The SDK's provider, whose tracers make lean spans unless a limit is set for what a span may hold."""

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> trace.Tracer:
        """Give a tracer."""
        tracer = super().get_tracer(instrumenting_module_name, instrumenting_library_version, schema_url, attributes)
        return FastTracer(tracer) if isinstance(tracer, Tracer) and _unlimited(self._span_limits) else tracer


def _unlimited(limits: SpanLimits) -> bool:
    """Tell whether no limit was set; the SDK's own, 128 of each kind, are ones that nothing here comes near."""
    set_to = vars(limits)
    return all(set_to[name] is None if name.endswith("_length") else set_to[name] == USUAL for name in set_to)
