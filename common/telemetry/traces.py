"""Traces: spans in batches over OTLP, off the path of the work they tell of."""

import os

from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from common.fast.spans import FastTracerProvider
from common.faults.clock_skew import ClockSkew, ClockSkewSpanExporter
from common.faults.silence import MutingSpanExporter, Silent
from common.telemetry.exported import CountingSpanExporter
from common.telemetry.otlp import Collector

# Two seconds, where the SDK waits five: in a demo one wants to see the trace of the request one just made.
SCHEDULE_DELAY_MS = 2000

# A queue of this many spans holds ten seconds of a request burst while the collector restarts; about 15 MB when full.
QUEUE_SIZE = 8192


# The SDK counts what its own parts do only when asked to, and reads whether it is when a part is made.
SELF_METRICS = "OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED"


def tracer_provider(
    resource: Resource,
    collector: Collector | None,
    *processors: SpanProcessor,
    meters: MeterProvider | None = None,
    clock_skew_s: ClockSkew | None = None,
    silent: Silent | None = None,
) -> TracerProvider:
    """Make the source of tracers: `processors` see each span first, then it goes to the collector, if there is one.

    The sampler is the one that OTEL_TRACES_SAMPLER names, by default all spans of a trace or none. When the queue is
    full, spans are dropped and counted, by `meters`: `otel.sdk.processor.span.processed` with `error.type`. Those of a
    batch that the collector did not take are counted by `otel.sdk.exporter.span.exported`, with `error.type` as well.
    """
    provider = FastTracerProvider(resource=resource, shutdown_on_exit=False)
    for processor in processors:
        provider.add_span_processor(processor)
    if collector:
        provider.add_span_processor(_batches(_exporter(collector, meters, clock_skew_s, silent), meters))
    return provider


def _batches(exporter: SpanExporter, meters: MeterProvider | None) -> BatchSpanProcessor:
    """Make the batching processor with its own figures, and leave the tracers without theirs: those cost per span."""
    before = os.environ.get(SELF_METRICS)
    os.environ[SELF_METRICS] = "true"
    try:
        return BatchSpanProcessor(
            exporter,
            max_queue_size=_unless_set("OTEL_BSP_MAX_QUEUE_SIZE", QUEUE_SIZE),
            schedule_delay_millis=_unless_set("OTEL_BSP_SCHEDULE_DELAY", SCHEDULE_DELAY_MS),
            meter_provider=meters,
        )
    finally:
        if before is None:
            del os.environ[SELF_METRICS]
        else:
            os.environ[SELF_METRICS] = before


def _exporter(
    collector: Collector, meters: MeterProvider | None, clock_skew_s: ClockSkew | None, silent: Silent | None
) -> SpanExporter:
    exporter = collector.span_exporter()
    if meters:
        exporter = CountingSpanExporter(exporter, meters)
    if clock_skew_s:
        exporter = ClockSkewSpanExporter(exporter, clock_skew_s)
    return MutingSpanExporter(exporter, silent) if silent else exporter


def _unless_set(variable: str, ours: int) -> int | None:
    """Our default, or None where the standard variable is set: then the SDK reads that."""
    return None if os.environ.get(variable) else ours
