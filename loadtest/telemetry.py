"""Telemetry of the load: traces that begin at a user, and figures of the run, over OTLP/HTTP."""

import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry import baggage, context, propagate
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import CallbackOptions, MeterProvider, NoOpMeterProvider, Observation
from opentelemetry.sdk.metrics import MeterProvider as SdkMeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NoOpTracerProvider, Span, SpanKind, Status, StatusCode, TracerProvider

from common.telemetry.baggage import SHAPE, SYNTHETIC, USER_KIND
from common.telemetry.process_metrics import observe_process
from common.telemetry.semconv import HTTP_DURATION_BUCKETS_S
from loadtest.settings import Settings

SERVICE, VERSION = "mythical-loadtest", "0.1.0"

TEST = "test"
RUN = "loadtest.run.id"
AGENT = f"{SERVICE}/{VERSION} (synthetic; locust)"

# A push that hangs must be over before the run is: twice this is the longest that an end can take.
PUSH_TIMEOUT_S = 2
METRICS_EVERY_MS = 5000

BUCKETS_S = tuple(sorted({*HTTP_DURATION_BUCKETS_S, 0.3}))  # 0.3 s is what the checks ask for

Labels = dict[str, str | int]


@dataclass(frozen=True)
class Call:
    """A request that is about to be made: its span, and the headers that carry it on."""

    span: Span
    headers: dict[str, str]


class Telemetry:
    """The spans and the instruments of one process that makes load."""

    def __init__(self, settings: Settings, traces: TracerProvider, meters: MeterProvider) -> None:
        self._traces, self._meters = traces, meters
        self._tracer = traces.get_tracer("mythical.loadtest")
        self._shape = settings.shape
        self._ended: Labels = {}
        self._had_users = False
        self.name_run(settings.run_id)
        self._meter = meter = meters.get_meter("mythical.loadtest")
        self._requests = meter.create_counter("locust.requests", description="Requests made.")
        self._failures = meter.create_counter("locust.failures", description="Requests that failed a check.")
        self._checks = meter.create_counter("locust.checks", description="Checks made, by result.")
        self._duration = meter.create_histogram(
            "locust.request.duration",
            unit="s",
            description="Duration of requests as the user sees it.",
            explicit_bucket_boundaries_advisory=BUCKETS_S,
        )

    def name_run(self, run_id: str) -> None:
        """Mark with this run what comes from now on; the page can start one after another."""
        if self._had_users:
            self._ended, self._had_users = self._labels, False
        self._marks = {SYNTHETIC: TEST, SHAPE: self._shape, RUN: run_id}
        # On points and not on the resource, which Prometheus keeps apart from its series and which cannot change.
        self._labels: Labels = {"shape": self._shape, "run_id": run_id}

    def count_users(self, users: Callable[[], dict[str, int]]) -> None:
        """Report how many users of each kind there are, asked of `users` at each push, and that the last run has none.

        A run may begin before a push has told that the last one ended: it would seem to go on for minutes.
        """

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            counts = users()
            self._had_users = self._had_users or any(counts.values())
            now = [Observation(count, {**self._labels, "user_kind": kind}) for kind, count in counts.items()]
            ended = [Observation(0, {**self._ended, "user_kind": kind}) for kind in counts if self._ended]
            return now + ended

        self._meter.create_observable_gauge("locust.users", [observe], description="Users at work, by kind.")
        # What makes no load, as a master, is left out: the generator is short of CPU where the users are.
        observe_process(self._meter)

    @contextmanager
    def task(self, kind: str) -> Iterator[None]:
        """Open the root span of one round of a user; what it asks within is one trace, marked as synthetic.

        The same marks go with each request as baggage, so that those who are asked can tell it from real traffic.
        """
        marks = {**self._marks, USER_KIND: kind}
        within = context.get_current()
        for name, value in marks.items():
            within = baggage.set_baggage(name, value, within)
        token = context.attach(within)
        try:
            with self._tracer.start_as_current_span(f"{kind} round", attributes=marks):
                yield
        finally:
            context.detach(token)

    @contextmanager
    def call(self, kind: str, method: str, route: str, url: str) -> Iterator[Call]:
        """Open the CLIENT span of a request and give it with the headers to send."""
        attributes = {
            **self._marks,
            USER_KIND: kind,
            "http.request.method": method,
            "url.full": url,
            "url.template": route,
            "peer.service": "mythical-server",
        }
        with self._tracer.start_as_current_span(
            f"{method} {route}", kind=SpanKind.CLIENT, attributes=attributes
        ) as span:
            headers = {"User-Agent": AGENT}
            propagate.inject(headers)
            yield Call(span, headers)

    def note(self, call: Call, kind: str, route: str, *, method: str, status: int, took_s: float) -> None:
        """Record one answer, within the block of its call, so that the histogram has exemplars."""
        labels: Labels = {**self._labels, "user_kind": kind, "method": method, "route": route, "status": status}
        call.span.set_attribute("http.response.status_code", status)
        self._requests.add(1, labels)
        self._duration.record(took_s, labels)

    def note_checks(self, call: Call, kind: str, verdicts: dict[str, str | None]) -> None:
        """Count checks, and say on the span what was expected where one failed."""
        for check, wrong in verdicts.items():
            labels: Labels = {**self._labels, "user_kind": kind, "check": check}
            self._checks.add(1, {**labels, "result": "failed" if wrong else "held"})
            if wrong:
                self._failures.add(1, {**labels, "reason": check.rpartition(" ")[2]})
                call.span.set_attribute("error.type", check)
                call.span.set_status(Status(StatusCode.ERROR, wrong))

    def note_planted(self, call: Call, kind: str, text: str) -> None:
        """Count a fault that was planted; it is no check that failed."""
        self._failures.add(1, {**self._labels, "user_kind": kind, "check": "", "reason": "planted"})
        call.span.set_attribute("error.type", "planted")
        call.span.set_status(Status(StatusCode.ERROR, text))

    def close(self) -> None:
        """Send what is held, and end."""
        for provider in (self._traces, self._meters):
            if isinstance(provider, SdkTracerProvider | SdkMeterProvider):
                provider.shutdown()


def start_telemetry(settings: Settings) -> Telemetry:
    """Begin to send to the collector; without telemetry, requests still carry their marks as baggage."""
    if not settings.telemetry:
        return Telemetry(settings, NoOpTracerProvider(), NoOpMeterProvider())
    who = resource()
    traces = SdkTracerProvider(resource=who, shutdown_on_exit=False)
    spans = OTLPSpanExporter(endpoint=f"{settings.collector}/v1/traces", timeout=PUSH_TIMEOUT_S)
    traces.add_span_processor(BatchSpanProcessor(spans, max_queue_size=8192, schedule_delay_millis=2000))
    figures = OTLPMetricExporter(endpoint=f"{settings.collector}/v1/metrics", timeout=PUSH_TIMEOUT_S)
    reader = PeriodicExportingMetricReader(figures, export_interval_millis=METRICS_EVERY_MS)
    return Telemetry(settings, traces, SdkMeterProvider([reader], resource=who, shutdown_on_exit=False))


def resource() -> Resource:
    """Describe this process of the load generator; OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME say the last word."""
    # Without an instance, the counters of several processes would be one series, which goes up and down.
    instance = f"{socket.gethostname()}-{os.getpid()}"
    known = {"service.name": SERVICE, "service.version": VERSION, "service.instance.id": instance}
    return Resource.create(known).merge(OTELResourceDetector().detect())
