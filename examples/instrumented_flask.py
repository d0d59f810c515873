"""A Flask application that emits traces, metrics, logs and profiles, each leading to the others.

Run it next to `make demo` or Grafana Alloy with `python examples/instrumented_flask.py`, then request
http://127.0.0.1:5000/primes/20000. docs/instrument-your-own-service.md explains each step.
"""

import json
import logging
import os
import queue
import signal
import sys

# Standard names of attributes and metrics; without it, the instrumentation of Flask emits the ones before 2023.
os.environ.setdefault("OTEL_SEMCONV_STABILITY_OPT_IN", "http")

import logging_loki
from flask import Flask, Response, jsonify
from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

import pyroscope

SERVICE = os.environ.get("OTEL_SERVICE_NAME", "primes")
LOKI_URL = os.environ.get("LOKI_URL", "http://127.0.0.1:3100/loki/api/v1/push")
PYROSCOPE_SERVER_ADDRESS = os.environ.get("PYROSCOPE_SERVER_ADDRESS", "http://127.0.0.1:4040")

log = logging.getLogger(__name__)
tracer = trace.get_tracer(__name__)
meter = metrics.get_meter(__name__)
primes_found = meter.create_histogram("primes.found", unit="{prime}", description="Primes found by a request.")


class ProfileLabels(SpanProcessor):
    """Labels the samples of a thread with the span that it serves, so that a span leads to its flame graph."""

    def on_start(self, span: Span, parent_context: object = None) -> None:  # noqa: ARG002 - the SDK's signature
        """Label the thread for a span without a parent in this process, and the span with its profile."""
        if span.parent is None or span.parent.is_remote:
            span_id = f"{span.context.span_id:016x}"
            span.set_attribute("pyroscope.profile.id", span_id)  # the attribute that Grafana reads
            pyroscope.add_thread_tag("span_id", span_id)

    def on_end(self, span: ReadableSpan) -> None:
        """Remove the label."""
        if span.context and (span.parent is None or span.parent.is_remote):
            pyroscope.remove_thread_tag("span_id", f"{span.context.span_id:016x}")


def add_trace_id(record: logging.LogRecord) -> bool:
    """Add the trace id of the current span to a log record, 32 hexadecimal digits, so that a log leads to its trace."""
    record.traceID = trace.format_trace_id(trace.get_current_span().get_span_context().trace_id)
    record.quoted = json.dumps(record.getMessage())  # quotes and line ends escaped, as logfmt asks for
    return True


def start_telemetry() -> logging_loki.LokiQueueHandler:
    """Send all four signals; return the log handler, whose queue has to be flushed at the end.

    The standard OTEL_* variables say where traces and metrics go, by default http://localhost:4318.
    """
    resource = Resource.create({"service.name": SERVICE})
    tracer_provider = TracerProvider(resource=resource)
    tracer_provider.add_span_processor(ProfileLabels())
    tracer_provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(tracer_provider)
    # A histogram keeps the latest sampled span of each bucket as an exemplar: a metric leads to a trace.
    reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    metrics.set_meter_provider(MeterProvider(resource=resource, metric_readers=[reader]))

    logging_loki.emitter.LokiEmitter.level_tag = "level"  # documented; the library's default label is "severity"
    labels = {"service_name": SERVICE, "job": SERVICE}
    handler = logging_loki.LokiQueueHandler(queue.Queue(10_000), url=LOKI_URL, tags=labels, version="1")
    handler.addFilter(add_trace_id)
    handler.setFormatter(logging.Formatter("msg=%(quoted)s traceID=%(traceID)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler, logging.StreamHandler()])
    logging.getLogger("urllib3").setLevel(logging.WARNING)  # pushing a log line must not log

    # In the process that serves: the profiler is a thread, and a fork would leave it behind.
    pyroscope.configure(application_name=SERVICE, server_address=PYROSCOPE_SERVER_ADDRESS)
    return handler


def create_app() -> Flask:
    """Return the application. It is a plain Flask application but for one line."""
    app = Flask(__name__)
    FlaskInstrumentor().instrument_app(app)

    @app.get("/primes/<int:limit>")
    def primes(limit: int) -> Response:
        with tracer.start_as_current_span("sieve", attributes={"primes.limit": limit}):
            found = [n for n in range(2, min(limit, 50_000)) if all(n % d for d in range(2, int(n**0.5) + 1))]
        primes_found.record(len(found))
        log.info("primes found")
        return jsonify(count=len(found), largest=found[-1] if found else None)

    return app


if __name__ == "__main__":
    loki = start_telemetry()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # else nothing below runs, and the last batch is lost
    try:
        create_app().run(port=int(os.environ.get("PORT", "5000")))
    finally:
        pyroscope.shutdown()
        loki.listener.stop()  # sends what is queued; the two providers send their last batch at exit by themselves
