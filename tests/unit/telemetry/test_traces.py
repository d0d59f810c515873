"""Spans in batches, off the path of the work they tell of."""

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
    """A collector that takes everything."""
    made = Sink(200)
    yield made
    made.close()


def to(port: int) -> Collector:
    """The collector at that port of loopback."""
    return Collector(LOOPBACK, port, "http/protobuf")


def tracer_provider(
    collector: Collector, meters: MeterProvider | None = None, silent: Callable[[], bool] = lambda: False
) -> TracerProvider:
    """Spans in batches to a collector."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(batch_processor(collector.exporter("traces"), meters or MeterProvider(), silent))
    return provider


def spans(provider: TracerProvider, count: int) -> None:
    """Make that many."""
    tracer = provider.get_tracer("test")
    for _ in range(count):
        tracer.start_span("x").end()


def test_many_spans_leave_in_one_push(sink: Sink) -> None:
    """In the original each left by itself."""
    provider = tracer_provider(to(sink.port))
    spans(provider, 100)
    provider.shutdown()
    assert [push.path for push in sink.pushes] == ["/v1/traces"]


@pytest.mark.parametrize(
    ("variable", "value", "pushes"),
    [("OTEL_TRACES_SAMPLER", "always_off", 0), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "20", 5)],
)
def test_the_standard_variables_decide(
    sink: Sink, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, pushes: int
) -> None:
    """What is kept, and how much goes at a time."""
    monkeypatch.setenv(variable, value)
    provider = tracer_provider(to(sink.port))
    spans(provider, 100)
    provider.shutdown()
    assert len(sink.pushes) == pushes


def test_a_batch_is_soon_on_its_way_when_that_is_asked_for(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_BSP_SCHEDULE_DELAY wins over the two seconds that are ours."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
    provider = tracer_provider(to(sink.port))
    spans(provider, 1)
    sink.wait_for(1)
    provider.shutdown()


def test_a_collector_that_hangs_costs_the_work_nothing() -> None:
    """Ten thousand spans, more than the queue holds: none waits for an export, which takes ten seconds to fail."""
    hanging = Sink(None)
    provider = tracer_provider(to(hanging.port))
    before = time.monotonic()
    spans(provider, 10_000)
    assert time.monotonic() - before < 60  # twenty exports would take three minutes
    hanging.let_go()
    provider.shutdown()
    hanging.close()


@pytest.mark.parametrize(("status", "lost"), [(200, {}), (400, {"error.type": "export_failed"})])
def test_spans_that_the_collector_does_not_take_are_counted(status: int, lost: dict[str, str]) -> None:
    """The queue lets go of a batch when it hands it to the exporter: of what fails there, only this count tells."""
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


def test_spans_of_a_service_without_a_voice_are_gone(sink: Sink) -> None:
    """The fault silent_telemetry: they are not kept for later, for nobody would wait for them."""
    silent = [True]
    provider = tracer_provider(to(sink.port), silent=lambda: silent[0])
    spans(provider, 3)
    provider.force_flush()
    assert sink.pushes == []
    silent[0] = False
    spans(provider, 1)
    provider.shutdown()
    assert len(sink.pushes) == 1
