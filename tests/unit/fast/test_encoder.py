"""The fast span encoder has the same output as the SDK's encoder."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans as sdk_encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from common.fast.encoder import encode_spans

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
VALUES = st.one_of(
    TEXT,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.lists(TEXT, max_size=3).map(tuple),
)
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
CONTEXTS = st.builds(
    SpanContext,
    trace_id=st.integers(1, 2**128 - 1),
    span_id=st.integers(1, 2**64 - 1),
    is_remote=st.booleans(),
    trace_flags=st.just(TraceFlags(TraceFlags.SAMPLED)),
    trace_state=st.sampled_from([TraceState(), TraceState([("vendor", "value")])]),
)
SPANS = st.builds(
    ReadableSpan,
    name=TEXT,
    context=CONTEXTS,
    parent=st.none() | CONTEXTS,
    resource=st.sampled_from([Resource({"service.name": "a"}), Resource({"service.name": "b"})]),
    attributes=st.dictionaries(KEYS, VALUES, max_size=8),
    links=st.lists(st.builds(Link, CONTEXTS, st.dictionaries(KEYS, VALUES, max_size=2)), max_size=2),
    kind=st.sampled_from(SpanKind),
    status=st.sampled_from([Status(), Status(StatusCode.OK), Status(StatusCode.ERROR, "it broke")]),
    start_time=st.integers(0, 2**63),
    end_time=st.integers(0, 2**63),
    instrumentation_scope=st.sampled_from([InstrumentationScope("one"), InstrumentationScope("two", "1.0")]),
)


@given(st.lists(SPANS, max_size=6))
def test_any_batch_encodes_to_the_same_message(spans: list[ReadableSpan]) -> None:
    """Both encoders produce the same spans, under the same resource and scope."""
    assert _comparable(decoded(spans)) == _comparable(sdk_encode_spans(spans))


def test_attributes_that_are_equal_in_python_keep_their_types() -> None:
    """1, 1.0, and True are equal and have the same hash, so the cache must not mix them up."""
    provider = TracerProvider(shutdown_on_exit=False)
    parent = NonRecordingSpan(SpanContext(1, 2, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)))
    spans = []
    for value in (1, 1.0, True, "1"):
        span = provider.get_tracer("t").start_span("s", set_span_in_context(parent), attributes={"key": value})
        span.end()
        assert isinstance(span, ReadableSpan)
        spans.append(span)

    assert _comparable(decoded(spans * 2)) == _comparable(sdk_encode_spans(spans * 2))


def decoded(spans: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
    """Decode the fast encoder's request as a collector does."""
    return ExportTraceServiceRequest.FromString(encode_spans(spans))


def _comparable(request: object) -> list[tuple[bytes, bytes, bytes]]:
    return sorted(
        (of.resource.SerializeToString(), scope.scope.SerializeToString(), span.SerializeToString())
        for of in request.resource_spans  # type: ignore[attr-defined]
        for scope in of.scope_spans
        for span in scope.spans
    )
