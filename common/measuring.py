"""A short way for measurements whose labels come again and again.

The SDK checks, copies, sorts and hashes the labels of each measurement to find what it counts in. Here that is done
once for each set of labels. What is counted, its exemplars and what is exported are the SDK's own.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics._internal import instrument as instruments
from opentelemetry.sdk.metrics._internal._view_instrument_match import _hash_attributes

Labels = Mapping[str, str | int]


class LeanMeasurement(NamedTuple):
    """The SDK's Measurement with labels as they come: those of this suite are strings and numbers."""

    value: float
    time_unix_nano: int
    instrument: Any
    context: Context
    attributes: Labels | None = None


def shorten_the_way(provider: MeterProvider) -> None:
    """Have the provider's instruments remember, for each set of labels, what a measurement counts in."""
    vars(instruments)["Measurement"] = LeanMeasurement  # where instruments look it up for each measurement
    consumer = provider._measurement_consumer
    vars(consumer)["consume_measurement"] = _ShortWay(consumer)


class _ShortWay:
    """Takes the place of the consumer's own method."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._sampled = consumer._sdk_config.exemplar_filter.should_sample
        self._known: dict[object, list[Any]] = {}  # no more entries than there are series

    def __call__(self, measurement: LeanMeasurement) -> None:
        value, time_unix_nano, instrument, context, labels = measurement
        sampled = self._sampled(value, time_unix_nano, labels, context)
        # With their types: 1, 1.0 and True are equal in Python and different labels.
        key = (instrument, *labels.items(), *map(type, labels.values())) if labels else instrument
        aggregations = self._known.get(key)
        if aggregations is None:
            self._known[key] = self._the_long_way(measurement, sampled)
            return
        for aggregation in aggregations:
            aggregation.aggregate(measurement, sampled)

    def _the_long_way(self, measurement: LeanMeasurement, sampled: bool) -> list[Any]:
        """Count the measurement as the SDK does, and give what it counted in, for each reader."""
        found = []
        for storage in self._consumer._reader_storages.values():
            for match in storage._get_or_init_view_instrument_match(measurement.instrument):
                match.consume_measurement(measurement, sampled)
                found.append(match._attributes_aggregation[_hash_attributes(dict(measurement.attributes or {}))])
        return found
