"""A short way for measurements whose labels come again and again.

The SDK checks, copies, sorts and hashes the labels of each measurement to find what it counts in. Here that is done
once for each set of labels. What is counted, its exemplars and what is exported are the SDK's own.

Whoever records the same few sets of labels all day keeps a `Series` for each, and spares making and finding them too.
"""

from collections.abc import Mapping
from time import time_ns
from typing import Any, NamedTuple

from opentelemetry.context import Context
from opentelemetry.metrics import Histogram, NoOpHistogram
from opentelemetry.sdk.metrics import MeterProvider, TraceBasedExemplarFilter
from opentelemetry.sdk.metrics._internal import instrument as instruments
from opentelemetry.sdk.metrics._internal._view_instrument_match import _hash_attributes
from opentelemetry.trace import Span, SpanContext, set_span_in_context

from common.fast.exemplars import LastPerBucketReservoir

Labels = Mapping[str, str | int]


class FastMeasurement(NamedTuple):
    """The SDK's Measurement with labels as they come: those of this suite are strings and numbers."""

    value: float
    time_unix_nano: int
    instrument: Any
    context: Context | SpanContext  # the latter where its exemplars are our own, which take both
    attributes: Labels | None = None


def shorten_the_way(provider: MeterProvider) -> None:
    """Have the provider's instruments remember, for each set of labels, what a measurement counts in."""
    vars(instruments)["Measurement"] = FastMeasurement  # where instruments look it up for each measurement
    consumer = provider._measurement_consumer
    vars(consumer)["consume_measurement"] = _ShortWay(consumer)


class _ShortWay:
    """Takes the place of the consumer's own method."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._sampled = consumer._sdk_config.exemplar_filter.should_sample
        # What OTEL_METRICS_EXEMPLAR_FILTER may have changed.
        self.by_trace = isinstance(consumer._sdk_config.exemplar_filter, TraceBasedExemplarFilter)
        self._known: dict[object, list[Any]] = {}  # no more entries than there are series

    def __call__(self, measurement: FastMeasurement) -> None:
        value, time_unix_nano, instrument, context, labels = measurement
        sampled = self._sampled(value, time_unix_nano, labels, context)
        key = _key(instrument, labels)
        aggregations = self._known.get(key)
        if aggregations is None:
            self._known[key] = self._the_long_way(measurement, sampled)
            return
        for aggregation in aggregations:
            aggregation.aggregate(measurement, sampled)

    def found(self, instrument: Any, labels: Labels) -> list[Any]:
        """Give what measurements of these labels count in; there has to have been one."""
        return self._known[_key(instrument, labels)]

    def _the_long_way(self, measurement: FastMeasurement, sampled: bool) -> list[Any]:
        """Count the measurement as the SDK does, and give what it counted in, for each reader."""
        found = []
        for storage in self._consumer._reader_storages.values():
            for match in storage._get_or_init_view_instrument_match(measurement.instrument):
                match.consume_measurement(measurement, sampled)
                found.append(match._attributes_aggregation[_hash_attributes(dict(measurement.attributes or {}))])
        return found


def _key(instrument: Any, labels: Labels | None) -> object:
    # With their types: 1, 1.0 and True are equal in Python and different labels.
    return (instrument, *labels.items(), *map(type, labels.values())) if labels else instrument


class Series:
    """One set of labels of a histogram, for whoever records it again and again."""

    def __init__(self, histogram: Histogram, labels: Labels) -> None:
        self._histogram = histogram
        self._labels = labels
        self._nothing = isinstance(histogram, NoOpHistogram)
        self._counts_in: list[Any] | None = None

    def record(self, value: float, span: Span) -> None:
        """Record a value, finite and not negative; a sampled span becomes its exemplar."""
        if self._nothing:
            return
        if self._counts_in is None:
            self._record_first(value, span)
            return
        context = span.get_span_context()
        sampled = context.trace_flags.sampled
        measurement = FastMeasurement(value, time_ns(), self._histogram, context, self._labels)
        for aggregation in self._counts_in:
            aggregation.aggregate(measurement, sampled)

    def _record_first(self, value: float, span: Span) -> None:
        """Go the histogram's own way, and remember where it led, where that can be told."""
        self._histogram.record(value, self._labels, set_span_in_context(span))
        consumer = getattr(self._histogram, "_measurement_consumer", None)
        way = vars(consumer).get("consume_measurement") if consumer else None
        if isinstance(way, _ShortWay) and way.by_trace:
            found = way.found(self._histogram, self._labels)
            if all(isinstance(each._reservoir, LastPerBucketReservoir) for each in found):
                self._counts_in = found
