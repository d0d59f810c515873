"""Exemplars of histograms: the last sampled span that fell into each bucket, with less work than in the SDK's own.

The SDK's reservoir of the same rule looks each bucket up from the first, and the span in the context, under a lock.
Source: OpenTelemetry specification, metrics SDK, "AlignedHistogramBucketExemplarReservoir".
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.metrics import Exemplar, ExemplarReservoir, Histogram, SimpleFixedSizeExemplarReservoir
from opentelemetry.sdk.metrics._internal.aggregation import _ExplicitBucketHistogramAggregation
from opentelemetry.sdk.metrics.view import View
from opentelemetry.trace import SpanContext, get_current_span
from opentelemetry.util.types import Attributes

# Value, time (ns since 1970), labels, and the context of the span.
_Offered = tuple[float, int, Attributes, SpanContext]


class LastPerBucketReservoir(ExemplarReservoir):
    """Keeps what was offered last for each bucket of a histogram, until it is collected.

    An offer is one assignment to a list, which no other thread can see half done: hence no lock. One that is made in
    the moment of a collection may be lost.
    """

    def __init__(self, boundaries: Sequence[float], **_: object) -> None:
        self._boundaries = boundaries
        self._last: list[_Offered | None] = [None] * (len(boundaries) + 1)

    def offer(self, value: float, time_unix_nano: int, attributes: Attributes, context: Context | SpanContext) -> None:
        """Take a measurement; `context` may be that of the span alone, where the caller has it."""
        of = context if isinstance(context, SpanContext) else get_current_span(context).get_span_context()
        self._last[bisect_left(self._boundaries, value)] = (value, time_unix_nano, attributes, of)

    def collect(self, point_attributes: Attributes) -> list[Exemplar]:
        """Give the exemplars and begin anew; labels that the series has are left out of them."""
        offered, self._last = self._last, [None] * (len(self._boundaries) + 1)
        return [_exemplar(each, point_attributes or {}) for each in offered if each]


def _exemplar(offered: _Offered, known: Any) -> Exemplar:
    value, time_unix_nano, attributes, of = offered
    more = {key: told for key, told in attributes.items() if key not in known} if attributes else None
    ids = (of.span_id, of.trace_id) if of.is_valid else (None, None)
    return Exemplar(more, value, time_unix_nano, *ids)


def exemplar_view() -> View:
    """Give the view that has histograms with explicit buckets keep exemplars so, and all others as the SDK does."""
    return View(instrument_type=Histogram, exemplar_reservoir_factory=_factory)


def _factory(aggregation: Any) -> Any:
    explicit = issubclass(aggregation, _ExplicitBucketHistogramAggregation)
    return LastPerBucketReservoir if explicit else SimpleFixedSizeExemplarReservoir
