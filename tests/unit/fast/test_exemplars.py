"""Our reservoir of exemplars keeps what the SDK's keeps."""

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import AlignedHistogramBucketExemplarReservoir, ExemplarReservoir
from opentelemetry.trace import NonRecordingSpan, SpanContext, set_span_in_context

from common.fast.exemplars import LastPerBucketReservoir

BOUNDS = (1, 10, 50)
# On a boundary, beside it, and anywhere.
VALUES = st.lists(st.sampled_from([0.0, 1.0, 1.1, 10.0, 50.0, 50.1]) | st.floats(0, 100), max_size=20)
LABELS = {"method": "GET", "beast": "unicorn"}


def _kept(reservoir: ExemplarReservoir, values: list[float]) -> list[list[tuple[object, ...]]]:
    """Offer the values, each in a span of its own and the first outside any, and collect twice."""
    for number, value in enumerate(values):
        span = NonRecordingSpan(SpanContext(number, number, is_remote=False))
        reservoir.offer(value, number, LABELS, set_span_in_context(span))
    collected = [reservoir.collect({"method": "GET"}) for _ in range(2)]
    return [
        [
            (each.value, each.time_unix_nano, each.span_id or None, each.trace_id or None, each.filtered_attributes)
            for each in one
        ]
        for one in collected
    ]


@given(VALUES)
def test_the_last_of_each_bucket_is_kept_until_collected(values: list[float]) -> None:
    """As by the SDK's own, with the labels that the series lacks."""
    assert _kept(LastPerBucketReservoir(BOUNDS), values) == _kept(
        AlignedHistogramBucketExemplarReservoir(BOUNDS), values
    )


def test_the_context_of_a_span_is_as_good_as_one_with_the_span_in_it() -> None:
    """Whoever has it need not wrap it."""
    reservoir = LastPerBucketReservoir(BOUNDS)
    reservoir.offer(3.0, 7, {}, SpanContext(0xA, 0xB, is_remote=False))
    (exemplar,) = reservoir.collect({})
    assert (exemplar.trace_id, exemplar.span_id, exemplar.value) == (0xA, 0xB, 3.0)
