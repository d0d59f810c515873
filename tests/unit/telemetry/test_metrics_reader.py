"""The reader that pushes a collection and keeps it for /metrics."""

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


class Kept(MetricExporter):
    """Keeps what is pushed."""

    def __init__(self) -> None:
        super().__init__()
        self.pushed: list[MetricsData] = []

    def export(self, metrics_data: MetricsData, timeout_millis: float = 0, **_: Any) -> MetricExportResult:  # noqa: ARG002 - the SDK's signature
        """Keep it."""
        self.pushed.append(metrics_data)
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 0) -> bool:  # noqa: ARG002 - the SDK's signature
        """Nothing waits."""
        return True

    def shutdown(self, timeout_millis: float = 0, **_: Any) -> None:
        """Nothing is held."""


def count(data: MetricsData | None) -> float:
    """The value of the one counter."""
    assert data is not None
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    assert isinstance(metric.data, Sum)
    (point,) = metric.data.data_points
    assert isinstance(point, NumberDataPoint)
    return point.value


def test_the_page_shows_what_was_pushed_last() -> None:
    """One collection serves both: a second reader would aggregate every measurement twice."""
    to = Kept()
    provider, snapshot = meter_provider(Resource({}), to, interval_ms=NEVER_MS, temporality="cumulative")
    counter = provider.get_meter("test").create_counter("c")
    counter.add(1)
    provider.force_flush()
    counter.add(1)
    assert snapshot() is to.pushed[-1]
    assert count(snapshot()) == 1
    provider.force_flush()
    assert count(snapshot()) == 2
    provider.shutdown()


def test_the_first_page_does_not_wait_for_the_first_push() -> None:
    """A scrape right after the start gets figures, and pushes none: the collector may not answer."""
    to = Kept()
    provider, snapshot = meter_provider(Resource({}), to, interval_ms=NEVER_MS, temporality="cumulative")
    counter = provider.get_meter("test").create_counter("c")
    for total in (1, 2):
        counter.add(1)
        assert count(snapshot()) == total
    assert to.pushed == []
    provider.shutdown()


def test_where_pushes_are_deltas_the_page_is_cumulative_all_the_same() -> None:
    """Prometheus computes rates from totals; a page of deltas would read as a counter that resets all the time."""
    to = Kept()
    provider, snapshot = meter_provider(Resource({}), to, interval_ms=NEVER_MS, temporality="delta")
    counter = provider.get_meter("test").create_counter("c")
    for total in (1, 2):
        counter.add(1)
        provider.force_flush()
        assert count(to.pushed[-1]) == 1
        assert count(snapshot()) == total
    provider.shutdown()


def test_a_service_without_a_voice_pushes_nothing_and_counts_on() -> None:
    """The fault silent_telemetry: who looks at the service itself sees that it works, and its totals lose nothing."""
    to, silent = Kept(), [True]
    provider, snapshot = meter_provider(
        Resource({}), to, interval_ms=NEVER_MS, temporality="cumulative", silent=lambda: silent[0]
    )
    counter = provider.get_meter("test").create_counter("c")
    counter.add(1)
    provider.force_flush()
    assert (to.pushed, count(snapshot())) == ([], 1)
    silent[0] = False
    provider.force_flush()
    assert count(to.pushed[-1]) == 1
    provider.shutdown()


@pytest.mark.parametrize("temporality", ["cumulative", "delta", "lowmemory"])
def test_without_a_collector_there_is_a_page(temporality: str) -> None:
    """OTEL_METRICS_EXPORTER=none: nothing is pushed, everything can be scraped."""
    provider, snapshot = meter_provider(Resource({}), None, interval_ms=NEVER_MS, temporality=temporality)
    provider.get_meter("test").create_counter("c").add(1)
    assert count(snapshot()) == 1
    provider.shutdown()
