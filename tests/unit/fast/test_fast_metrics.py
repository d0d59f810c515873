"""Fast histograms are exported like the SDK's histograms."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.sdk.metrics import MeterProvider as StockMeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, MetricsData, NumberDataPoint
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from common.fast.metrics import FastMeterProvider

ATTRIBUTES = st.dictionaries(
    st.sampled_from(["method", "status"]),
    st.sampled_from(["GET", "POST", 1, True, 1.0, "1", ["a", "b"], (1,), (True,), {"a": 1, "b": 2}, {"b": 2, "a": 1}]),
    max_size=2,
)
# On a boundary, next to it, and anywhere; a negative amount is ignored.
AMOUNTS = st.sampled_from([-1.0, math.inf, math.nan, 0.0, 1.0, 1.1, 10.0, 50.0, 50.1]) | st.floats(0, 100)
MEASURED = st.lists(st.tuples(AMOUNTS, ATTRIBUTES | st.none(), st.booleans()), max_size=20)
BOUNDARIES = (1, 10, 50)


class Meters:
    """A provider, stock or fast, and the metrics that it collects."""

    def __init__(self, *, fast: bool) -> None:
        self._reader = InMemoryMetricReader()
        stock = StockMeterProvider(metric_readers=[self._reader], shutdown_on_exit=False)
        self.provider: MeterProvider = stock
        self._fast: FastMeterProvider | None = None
        if fast:
            self.provider = self._fast = FastMeterProvider(Resource({}))
            self._fast.stock = stock

    def collect(self) -> dict[str, list[Any]]:
        """Return the data points of each metric, under the scope `test`."""
        data: MetricsData | None = self._reader.get_metrics_data()
        data = self._fast.add_points(data) if self._fast else data
        scopes = [scope for of in (data.resource_metrics if data else ()) for scope in of.scope_metrics]
        assert [scope.scope.name for scope in scopes] == ["test"] * min(len(scopes), 1)
        return {metric.name: list(metric.data.data_points) for scope in scopes for metric in scope.metrics}


def described(point: HistogramDataPoint | NumberDataPoint) -> tuple[object, ...]:
    """Return the attributes with their types, the values, and the latest exemplar of each bucket."""
    attributes = repr(sorted((point.attributes or {}).items()))
    exemplars = tuple((each.trace_id, each.span_id, each.value) for each in point.exemplars)
    if isinstance(point, HistogramDataPoint):
        return attributes, tuple(point.bucket_counts), point.count, round(point.sum, 6), point.min, point.max, exemplars
    return attributes, round(point.value, 6)  # the SDK chooses its exemplars at random


def recorded(
    measured: Sequence[tuple[float, dict[str, Any] | None, bool]], *, fast: bool
) -> list[set[tuple[object, ...]]]:
    """Record each amount in a separate span, and collect after half of them and after all."""
    meters = Meters(fast=fast)
    meter = meters.provider.get_meter("test")
    histogram = meter.create_histogram("times", explicit_bucket_boundaries_advisory=BOUNDARIES)
    counter = meter.create_counter("count")
    default = meter.create_histogram("default")

    def level(_: CallbackOptions) -> list[Observation]:
        return [Observation(7, {"queue": "messages"}), Observation(8)]

    meter.create_observable_gauge("level", [level])
    collections = []
    for number, (amount, attributes, sampled) in enumerate(measured, 1):
        flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
        span = NonRecordingSpan(SpanContext(number, number, is_remote=False, trace_flags=flags))
        context = trace.set_span_in_context(span)
        histogram.record(amount, attributes, context)
        default.record(amount, attributes, context)
        if 0 <= amount < math.inf:
            counter.add(amount, attributes, context)
        if number in (len(measured) // 2, len(measured)):
            points = meters.collect()
            collections.append({(name, *described(point)) for name, each in points.items() for point in each})
    return collections


@given(MEASURED)
def test_fast_histograms_match_the_sdk(measured: list[tuple[float, dict[str, Any] | None, bool]]) -> None:
    """Series, values, and exemplars are the same for all attributes, in any order and of any type."""
    assert recorded(measured, fast=True) == recorded(measured, fast=False)


def test_attributes_that_change_after_the_measurement_do_not_change_it() -> None:
    """The caller may reuse one dictionary."""
    meters = Meters(fast=True)
    attributes = {"method": "GET"}
    histogram = meters.provider.get_meter("test").create_histogram("times")
    histogram.record(1, attributes)
    attributes["method"] = "POST"
    histogram.record(2, attributes)
    points = meters.collect()["times"]
    assert {point.attributes["method"]: point.sum for point in points} == {"GET": 1, "POST": 2}


def test_two_histograms_with_one_name_are_one_series() -> None:
    """A second create_histogram() returns the same series, and a scope has one meter."""
    meters = Meters(fast=True)
    for _ in range(2):
        meters.provider.get_meter("test").create_histogram("times").record(1)
    (point,) = meters.collect()["times"]
    assert point.count == 2


def test_names_are_checked_by_the_sdk(caplog: pytest.LogCaptureFixture) -> None:
    """An invalid name raises, a negative amount is ignored with a warning, and two units make two histograms."""
    meters = Meters(fast=True)
    meter = meters.provider.get_meter("test")
    with pytest.raises(Exception, match="ASCII"):
        meter.create_histogram("1 st")
    meter.create_histogram("times", "s").record(1)
    meter.create_histogram("times", "ms").record(-1)
    assert len(caplog.records) == 1
    meter.create_histogram("times", "ms").record(2)
    assert [point.sum for point in meters.collect()["times"]] == [2]  # the later of two metrics of that name


def test_the_current_span_is_the_exemplar_without_an_explicit_context() -> None:
    """This is the case of `histogram.record(seconds)` inside a span."""
    meters = Meters(fast=True)
    histogram = meters.provider.get_meter("test").create_histogram("times")
    sampled = SpanContext(7, 8, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    with trace.use_span(NonRecordingSpan(sampled)):
        histogram.record(1)
    (point,) = meters.collect()["times"]
    assert [(each.trace_id, each.span_id) for each in point.exemplars] == [(7, 8)]
