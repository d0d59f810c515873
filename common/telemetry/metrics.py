"""Metrics: one set of instruments, pushed over OTLP and served at /metrics from the same collection."""

import os
import threading
from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.metrics import (
    Counter,
    Histogram,
    MeterProvider,
    ObservableCounter,
    ObservableUpDownCounter,
    UpDownCounter,
)
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    InMemoryMetricReader,
    MetricExporter,
    MetricExportResult,
    MetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation
from opentelemetry.sdk.resources import Resource

from common.telemetry.delivery import Answer, Exports, pushing

LatestMetrics = Callable[[], MetricsData | None]
AddPoints = Callable[[MetricsData | None], MetricsData | None]

# Source: OpenTelemetry specification, "OTLP metrics exporter", the temporality that each preference stands for.
TEMPORALITY: dict[str, tuple[type, ...]] = {
    "cumulative": (),
    "delta": (Counter, Histogram, ObservableCounter),
    "lowmemory": (Counter, Histogram),
}
# Source: OpenTelemetry semantic conventions, "SDK metrics".
EXPORTED_POINTS = "otel.sdk.exporter.metric_data_point.exported"
HISTOGRAM_AGGREGATION = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"


class CachingMetricExporter(MetricExporter):
    """Passes each collection to another exporter, and keeps it as the latest one for /metrics.

    A second reader would aggregate each measurement twice, at about 5 µs each. `add_points` adds what the SDK did not
    measure; while `silent()` is true, an injected fault, collections are kept and not exported.
    """

    def __init__(
        self, exporter: MetricExporter, temporality: str, add_points: AddPoints, silent: Callable[[], bool]
    ) -> None:
        delta, totals = AggregationTemporality.DELTA, AggregationTemporality.CUMULATIVE
        kinds = (Counter, Histogram, ObservableCounter, UpDownCounter, ObservableUpDownCounter)
        exponential = os.environ.get(HISTOGRAM_AGGREGATION, "").strip().lower() == "base2_exponential_bucket_histogram"
        super().__init__(
            preferred_temporality={kind: delta if kind in TEMPORALITY[temporality] else totals for kind in kinds},
            preferred_aggregation={Histogram: ExponentialBucketHistogramAggregation()} if exponential else None,
        )
        self.latest: MetricsData | None = None
        self.exports: Exports | None = None
        self._exporter = exporter
        self._add_points = add_points
        self._silent = silent
        self._keeping = threading.local()

    def keep_only(self, collect: Callable[[], None]) -> None:
        """Call `collect`, and keep what it collects without exporting it."""
        self._keeping.on = True
        try:
            collect()
        finally:
            self._keeping.on = False

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """Keep the collection and export it."""
        self.latest = data = self._add_points(metrics_data) or metrics_data
        if self._silent() or getattr(self._keeping, "on", False):
            return MetricExportResult.SUCCESS
        result, answer = MetricExportResult.FAILURE, Answer()
        try:
            with pushing() as answer:
                result = self._exporter.export(data, timeout_millis, **kwargs)
        finally:
            if self.exports:
                self.exports.record(_points(data), answer, delivered=result is MetricExportResult.SUCCESS)
        return result

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Flush the exporter."""
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Shut the exporter down."""
        self._exporter.shutdown(timeout_millis, **kwargs)


def _points(data: MetricsData) -> int:
    scopes = (scope for each in data.resource_metrics for scope in each.scope_metrics)
    return sum(len(metric.data.data_points) for scope in scopes for metric in scope.metrics)


def meter_provider(
    resource: Resource,
    exporter: MetricExporter | None,
    *,
    interval_ms: float,
    temporality: str,
    add_points: AddPoints = lambda data: data,
    silent: Callable[[], bool] = lambda: False,
) -> tuple[MeterProvider, LatestMetrics]:
    """Return the SDK's provider of meters, and the function that returns the latest metrics, as totals.

    Metrics are exported every `interval_ms` milliseconds; the latest are at most that old. Without an exporter, or
    where it prefers differences to totals, /metrics has a reader of its own.
    """
    readers: list[MetricReader] = []
    if exporter:
        cache = CachingMetricExporter(exporter, temporality, add_points, silent)
        reader = PeriodicExportingMetricReader(cache, export_interval_millis=interval_ms)
        readers.append(reader)
    if exporter and temporality == "cumulative":

        def latest() -> MetricsData | None:
            # Before the first export nothing is there, and the first request should not wait for the collector.
            if cache.latest is None:
                cache.keep_only(reader.collect)
                found, cache.latest = cache.latest, None
                return found
            return cache.latest

    else:
        own = InMemoryMetricReader()
        readers.append(own)

        def latest() -> MetricsData | None:
            return add_points(own.get_metrics_data())

    provider = MeterProvider(metric_readers=readers, resource=resource, shutdown_on_exit=False)
    if exporter:
        counter = provider.get_meter("opentelemetry-sdk").create_counter(
            EXPORTED_POINTS,
            unit="{data_point}",
            description="Data points exported; with error.type, those lost.",
        )
        cache.exports = Exports("metrics", counter)
    return provider, latest
