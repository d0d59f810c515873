"""Record spans and metrics in memory as they would be exported."""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from flask import Flask
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler
from opentelemetry.trace import INVALID_SPAN_CONTEXT, SpanContext

from common.fast import flask as fast_flask
from common.telemetry import flask as stock_flask
from common.telemetry.flask import StartAttributes


class Recorded:
    """A tracer and a meter with their recorded telemetry; INSTRUMENTATION selects the instrumentation of Flask."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._layer = stock_flask if os.environ.get("INSTRUMENTATION") == "stock" else fast_flask
        self._spans = InMemorySpanExporter()
        self.tracer_provider = TracerProvider(sampler, shutdown_on_exit=False)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.tracer = self.tracer_provider.get_tracer("test")
        self._reader = InMemoryMetricReader()
        self.meter_provider = MeterProvider([self._reader], shutdown_on_exit=False)
        self.meter = self.meter_provider.get_meter("test")

    def instrument_flask(self, app: Flask, start_attributes: StartAttributes) -> None:
        """Instrument an application so that its requests create spans here."""
        self._layer.instrument_flask(app, start_attributes, self.tracer_provider)

    @property
    def spans(self) -> list[ReadableSpan]:
        """Return the ended spans in order."""
        return list(self._spans.get_finished_spans())

    @property
    def span(self) -> ReadableSpan:
        """Return the only span."""
        (span,) = self.spans
        return span

    @property
    def context(self) -> SpanContext:
        """Return the IDs of the only span."""
        return self.span.get_span_context() or INVALID_SPAN_CONTEXT

    def points(self, name: str) -> list[tuple[dict[str, object], Any]]:
        """Return the data points of a metric as pairs of labels and point."""
        return list(self._points(name))

    def _points(self, name: str) -> Iterator[tuple[dict[str, object], Any]]:
        data = self._reader.get_metrics_data()
        for of_resource in data.resource_metrics if data else ():
            for scope in of_resource.scope_metrics:
                for metric in scope.metrics:
                    if metric.name == name:
                        for point in metric.data.data_points:
                            yield dict(point.attributes or {}), point


def attributes(span: ReadableSpan) -> Mapping[str, Any]:
    """Return the attributes of a span."""
    return span.attributes or {}
