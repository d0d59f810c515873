"""Metrics: one set of instruments, pushed over OTLP and shown on /metrics from the same collection."""

from collections.abc import Callable
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    InMemoryMetricReader,
    MetricExporter,
    MetricReader,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource

from common.fast.exemplars import exemplar_view
from common.fast.metrics import shorten_the_way
from common.faults.silence import Silent
from common.telemetry.otlp import Collector

Snapshot = Callable[[], MetricsData | None]


class CachingMetricReader(PeriodicExportingMetricReader):
    """Pushes each collection and keeps the last one for /metrics.

    A second reader would make the SDK aggregate every measurement twice: some 5 µs for each on the path of a request.
    """

    def __init__(self, exporter: MetricExporter, interval_ms: float, silent: Silent) -> None:
        self._silent = silent
        self._last: MetricsData | None = None
        super().__init__(exporter, export_interval_millis=interval_ms)

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        self._last = metrics_data
        if not self._silent():
            super()._receive_metrics(metrics_data, timeout_millis, **kwargs)

    def snapshot(self) -> MetricsData | None:
        """Give the metrics as last pushed: at most one interval old. Before the first push, as they are now."""
        if self._last is not None:
            return self._last
        # Not by collect(), which pushes: the page would wait ten seconds for a collector that does not answer.
        look: Any = self._collect  # the SDK's own types tell less than there is
        now: MetricsData | None = look(self)
        return now


def meter_provider(
    resource: Resource, collector: Collector | None, *, interval_ms: float, delta: bool, silent: Silent | None = None
) -> tuple[MeterProvider, Snapshot]:
    """Make the source of meters, and the function that gives what it measured in cumulative form.

    Without a collector, or where the push is in delta form, /metrics gets a reader of its own. `silent` is the planted
    fault silent_telemetry: nothing is pushed while it says so.
    """
    readers: list[MetricReader] = []
    snapshot: Snapshot
    if collector:
        shared = CachingMetricReader(collector.metric_exporter(), interval_ms, silent or (lambda: False))
        readers.append(shared)
        snapshot = shared.snapshot
    if not collector or delta:
        own = InMemoryMetricReader()
        readers.append(own)
        snapshot = own.get_metrics_data
    provider = MeterProvider(metric_readers=readers, resource=resource, views=[exemplar_view()], shutdown_on_exit=False)
    shorten_the_way(provider)
    return provider, snapshot
