"""The reader pushes a collection of metrics and keeps it for /metrics."""

from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    Sum,
)
from opentelemetry.sdk.resources import Resource

from common.telemetry.metrics import meter_provider

NEVER_MS = 3_600_000


class RecordingExporter(MetricExporter):
    """Records pushed metrics."""

    def __init__(self) -> None:
        super().__init__()
        self.pushed: list[MetricsData] = []

    def export(self, metrics_data: MetricsData, timeout_millis: float = 0, **_: Any) -> MetricExportResult:  # noqa: ARG002 - the SDK's signature
        """Record the metrics."""
        self.pushed.append(metrics_data)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 0) -> bool:  # noqa: ARG002 - the SDK's signature
        """Return at once, because nothing is queued."""
        return True

    def shutdown(self, timeout_millis: float = 0, **_: Any) -> None:
        """Do nothing, because no resource is held."""


def count(data: MetricsData | None) -> float:
    """Return the value of the only counter."""
    assert data is not None
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    assert isinstance(metric.data, Sum)
    (point,) = metric.data.data_points
    assert isinstance(point, NumberDataPoint)
    return point.value


def test_the_page_shows_the_last_push() -> None:
    """One collection serves both, because a second reader would aggregate every measurement twice."""
    exporter = RecordingExporter()
    provider, snapshot = meter_provider(Resource({}), exporter, interval_ms=NEVER_MS, temporality="cumulative")
    counter = provider.get_meter("test").create_counter("c")
    counter.add(1)
    provider.force_flush()
    counter.add(1)
    assert snapshot() is exporter.pushed[-1]
    assert count(snapshot()) == 1
    provider.force_flush()
    assert count(snapshot()) == 2
    provider.shutdown()


def test_the_first_page_does_not_wait_for_the_first_push() -> None:
    """A scrape right after the start gets values and pushes none, because the collector may not respond."""
    exporter = RecordingExporter()
    provider, snapshot = meter_provider(Resource({}), exporter, interval_ms=NEVER_MS, temporality="cumulative")
    counter = provider.get_meter("test").create_counter("c")
    for total in (1, 2):
        counter.add(1)
        assert count(snapshot()) == total
    assert exporter.pushed == []
    provider.shutdown()


def test_the_page_is_cumulative_even_if_pushes_are_deltas() -> None:
    """Prometheus computes rates from totals; a page of deltas would look like a counter that resets all the time."""
    exporter = RecordingExporter()
    provider, snapshot = meter_provider(Resource({}), exporter, interval_ms=NEVER_MS, temporality="delta")
    counter = provider.get_meter("test").create_counter("c")
    for total in (1, 2):
        counter.add(1)
        provider.force_flush()
        assert count(exporter.pushed[-1]) == 1
        assert count(snapshot()) == total
    provider.shutdown()


def test_a_silenced_service_pushes_nothing_and_keeps_counting() -> None:
    """With the fault silent_telemetry, the page of the service still works, and its totals are complete."""
    exporter, silent = RecordingExporter(), [True]
    provider, snapshot = meter_provider(
        Resource({}), exporter, interval_ms=NEVER_MS, temporality="cumulative", silent=lambda: silent[0]
    )
    counter = provider.get_meter("test").create_counter("c")
    counter.add(1)
    provider.force_flush()
    assert (exporter.pushed, count(snapshot())) == ([], 1)
    silent[0] = False
    provider.force_flush()
    assert count(exporter.pushed[-1]) == 1
    provider.shutdown()


@pytest.mark.parametrize("temporality", ["cumulative", "delta", "lowmemory"])
def test_without_a_collector_the_page_works(temporality: str) -> None:
    """With OTEL_METRICS_EXPORTER=none, nothing is pushed, and everything can be scraped."""
    provider, snapshot = meter_provider(Resource({}), None, interval_ms=NEVER_MS, temporality=temporality)
    provider.get_meter("test").create_counter("c").add(1)
    assert count(snapshot()) == 1
    provider.shutdown()
