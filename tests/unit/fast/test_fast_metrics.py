"""The short way of measurements leads where the SDK's way leads."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.metrics import CallbackOptions, NoOpMeterProvider, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics._internal import instrument as instruments
from opentelemetry.sdk.metrics._internal.measurement import Measurement
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from common.fast.exemplars import exemplar_view
from common.fast.metrics import Series, shorten_the_way

LABELS = st.dictionaries(
    st.sampled_from(["method", "status"]), st.sampled_from(["GET", "POST", 1, True, 1.0, "1"]), max_size=2
)
MEASURED = st.lists(st.tuples(st.floats(0, 100), LABELS | st.none(), st.booleans()), max_size=20)
BOUNDS = (1, 10, 50)


def _totals(
    measured: list[tuple[float, dict[str, object] | None, bool]], *, short: bool, series: bool = False
) -> set[object]:
    reader = InMemoryMetricReader()
    views = [exemplar_view()] if series else []
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False, views=views)
    vars(instruments)["Measurement"] = Measurement  # the SDK's own; an earlier test may have replaced it
    if short:
        shorten_the_way(provider)
    meter = provider.get_meter("test")
    histogram = meter.create_histogram("times", explicit_bucket_boundaries_advisory=BOUNDS)
    counter = meter.create_counter("count")

    def level(_: CallbackOptions) -> list[Observation]:
        return [Observation(7, {"queue": "messages"}), Observation(8)]

    meter.create_observable_gauge("level", [level])
    kept: dict[str, Series] = {}
    for number, (value, labels, sampled) in enumerate(measured, 1):
        flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
        span = NonRecordingSpan(SpanContext(number, number, is_remote=False, trace_flags=flags))
        context = trace.set_span_in_context(span)
        if series:
            key = repr(sorted((labels or {}).items(), key=repr))
            kept.setdefault(key, Series(histogram, labels or {})).record(value, span)  # type: ignore[arg-type]
        else:
            histogram.record(value, labels, context)  # type: ignore[arg-type]
        counter.add(value, labels, context)  # type: ignore[arg-type]
    data = reader.get_metrics_data()
    provider.shutdown()
    points = [
        (metric.name, point)
        for of in (data.resource_metrics if data else ())
        for scope in of.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    ]
    return {(name, *_told(point)) for name, point in points}  # type: ignore[arg-type]


def _told(point: HistogramDataPoint | NumberDataPoint) -> tuple[object, ...]:
    """Labels with their types, the figures, and where exemplars come in the order of time, the last of each bucket."""
    labels = frozenset((key, type(value), value) for key, value in (point.attributes or {}).items())
    if isinstance(point, HistogramDataPoint):
        exemplars = tuple((each.trace_id, each.value) for each in point.exemplars)
        return labels, point.bucket_counts, point.sum, point.min, point.max, exemplars
    return labels, point.value


@settings(deadline=None)  # a busy machine is no error
@given(MEASURED)
def test_the_short_way_counts_what_the_long_way_counts(
    measured: list[tuple[float, dict[str, object] | None, bool]],
) -> None:
    """The same series, figures and exemplars, whatever the labels, their order and their types."""
    assert _totals(measured, short=True) == _totals(measured, short=False)


@settings(deadline=None)
@given(MEASURED)
def test_a_series_counts_what_its_histogram_counts(
    measured: list[tuple[float, dict[str, object] | None, bool]],
) -> None:
    """The same figures and exemplars, those of our own reservoir among them."""
    assert _totals(measured, short=True, series=True) == _totals(measured, short=False)


def test_a_series_obeys_another_filter_of_exemplars(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_METRICS_EXEMPLAR_FILTER=always_off means what it says."""
    monkeypatch.setenv("OTEL_METRICS_EXEMPLAR_FILTER", "always_off")
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False, views=[exemplar_view()])
    shorten_the_way(provider)
    series = Series(provider.get_meter("test").create_histogram("times"), {"method": "GET"})
    sampled = NonRecordingSpan(SpanContext(1, 1, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED)))
    for _ in range(3):
        series.record(1.0, sampled)
    data = reader.get_metrics_data()
    provider.shutdown()
    assert data is not None
    point = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points[0]
    assert isinstance(point, HistogramDataPoint)
    assert (point.count, list(point.exemplars)) == (3, [])


def test_a_series_of_a_histogram_that_is_none_does_nothing() -> None:
    """As with OTEL_SDK_DISABLED."""
    Series(NoOpMeterProvider().get_meter("test").create_histogram("times"), {}).record(1.0, trace.INVALID_SPAN)


def test_labels_that_change_after_the_measurement_do_not_change_it() -> None:
    """Callers may use one dictionary again."""
    labels: dict[str, object] = {"method": "GET"}
    reader = InMemoryMetricReader()
    provider = MeterProvider(metric_readers=[reader], shutdown_on_exit=False)
    shorten_the_way(provider)
    counter = provider.get_meter("test").create_counter("count")
    counter.add(1, labels)  # type: ignore[arg-type]
    labels["method"] = "POST"
    counter.add(2, labels)  # type: ignore[arg-type]

    data = reader.get_metrics_data()
    assert data is not None
    points = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    told = {str((point.attributes or {})["method"]): point.value for point in points}  # type: ignore[union-attr]
    assert told == {"GET": 1, "POST": 2}
    provider.shutdown()
