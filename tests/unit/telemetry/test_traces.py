"""Spans are exported in batches by a separate thread."""

import time
from collections.abc import Callable, Iterator

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import TracerProvider

from common.telemetry.settings import Collector
from common.telemetry.traces import batch_processor
from tests.unit.telemetry.push_sink import LOOPBACK, Sink


@pytest.fixture
def sink() -> Iterator[Sink]:
    """Start a collector that accepts everything."""
    made = Sink(200)
    yield made
    made.close()


def to(port: int) -> Collector:
    """Return the collector at that port of loopback."""
    return Collector(LOOPBACK, port, "http/protobuf")


def tracer_provider(
    collector: Collector, meters: MeterProvider | None = None, silent: Callable[[], bool] = lambda: False
) -> TracerProvider:
    """Return a provider that exports batches to a collector."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(batch_processor(collector.exporter("traces"), meters or MeterProvider(), silent))
    return provider


def spans(provider: TracerProvider, count: int) -> None:
    """Create that many spans."""
    tracer = provider.get_tracer("test")
    for _ in range(count):
        tracer.start_span("x").end()


def test_many_spans_are_sent_in_one_push(sink: Sink) -> None:
    """The original sent each span separately."""
    provider = tracer_provider(to(sink.port))
    spans(provider, 100)
    provider.shutdown()
    assert [push.path for push in sink.pushes] == ["/v1/traces"]


@pytest.mark.parametrize(
    ("variable", "value", "pushes"),
    [("OTEL_TRACES_SAMPLER", "always_off", 0), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "20", 5)],
)
def test_the_standard_variables_take_effect(
    sink: Sink, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, pushes: int
) -> None:
    """They set the sampler and the size of a batch."""
    monkeypatch.setenv(variable, value)
    provider = tracer_provider(to(sink.port))
    spans(provider, 100)
    provider.shutdown()
    assert len(sink.pushes) == pushes


def test_the_delay_of_a_batch_can_be_set(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_BSP_SCHEDULE_DELAY takes precedence over the default of two seconds."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    provider = tracer_provider(to(sink.port))
    spans(provider, 1)
    sink.wait_for(1)
    provider.shutdown()


def test_a_collector_that_hangs_does_not_delay_the_work() -> None:
    """No span waits for an export, which takes ten seconds to fail, even if the queue is full."""
    hanging = Sink(None)
    provider = tracer_provider(to(hanging.port))
    before = time.monotonic()
    spans(provider, 10_000)
    assert time.monotonic() - before < 60  # twenty exports would take three minutes
    hanging.release()
    provider.shutdown()
    hanging.close()


@pytest.mark.parametrize(("status", "lost"), [(200, {}), (400, {"error.type": "export_failed"})])
def test_spans_that_the_collector_does_not_accept_are_counted(status: int, lost: dict[str, str]) -> None:
    """The queue drops its reference to a batch before the export, so only this counter shows a failure."""
    answering, reader = Sink(status), InMemoryMetricReader()
    provider = tracer_provider(to(answering.port), meters=MeterProvider([reader]))
    spans(provider, 7)
    provider.shutdown()
    data = reader.get_metrics_data()
    answering.close()
    assert data
    metrics = {each.name: each for each in data.resource_metrics[0].scope_metrics[0].metrics}
    (point,) = metrics["otel.sdk.exporter.span.exported"].data.data_points
    assert isinstance(point, NumberDataPoint)
    assert (point.value, point.attributes) == (7, lost)


def test_spans_of_a_silenced_service_are_dropped(sink: Sink) -> None:
    """The fault silent_telemetry does not keep them for later."""
    silent = [True]
    provider = tracer_provider(to(sink.port), silent=lambda: silent[0])
    spans(provider, 3)
    provider.force_flush()
    assert sink.pushes == []
    silent[0] = False
    spans(provider, 1)
    provider.shutdown()
    assert len(sink.pushes) == 1
