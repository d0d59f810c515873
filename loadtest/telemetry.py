"""Telemetry of the load generator: traces that start at a user, and metrics of the run, over OTLP/HTTP."""

import logging
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
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
from opentelemetry.trace import NoOpTracerProvider, Span, SpanKind, Status, StatusCode, TracerProvider

from common.core.address import bypass_proxies, shown
from common.telemetry.delivery import is_not_about_a_push, otlp_session
from common.telemetry.logs.records import with_fields
from common.telemetry.metrics import meter_provider
from common.telemetry.process import observe_process
from common.telemetry.semconv import HTTP_DURATION_BUCKETS_S, SHAPE, SYNTHETIC, USER_KIND
from common.telemetry.standard_variables import remove_unset
from common.telemetry.traces import batch_processor
from loadtest.settings import Settings

SERVICE, VERSION = "mythical-loadtest", "0.1.0"

TEST = "test"
RUN = "loadtest.run.id"
AGENT = f"{SERVICE}/{VERSION} (synthetic; locust)"

# An export that hangs must not delay the end of the run: shutdown takes at most twice this.
PUSH_TIMEOUT_S = 2

BUCKETS_S = tuple(sorted({*HTTP_DURATION_BUCKETS_S, 0.3}))  # 0.3 s is what the checks ask for

Labels = dict[str, str | int]


@dataclass(frozen=True)
class Call:
    """A request that is about to be sent: its span, and the headers that propagate it."""

    span: Span
    headers: dict[str, str]


class Telemetry:
    """The spans and instruments of one process that generates load."""

    def __init__(self, settings: Settings, traces: TracerProvider, meters: MeterProvider) -> None:
        self._traces, self._meters = traces, meters
        self._tracer = traces.get_tracer("mythical.loadtest")
        self._shape = settings.shape
        self._authorization = {"Authorization": settings.authorization} if settings.authorization else {}
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
        """Set the run id of all further telemetry; the page can start several runs in sequence."""
        if self._had_users:
            self._ended, self._had_users = self._labels, False
        self._marks = {SYNTHETIC: TEST, SHAPE: self._shape, RUN: run_id}
        # On data points, not on the resource, which cannot change and whose attributes are not labels in Prometheus.
        self._labels: Labels = {"shape": self._shape, "run_id": run_id}

    def count_users(self, users: Callable[[], dict[str, int]]) -> None:
        """Report the number of users of each kind from `users` at each export, and 0 for the previous run.

        A run may start before an export reported the end of the previous one, which would seem to last minutes longer.
        """

        def observe(_: CallbackOptions) -> Iterable[Observation]:
            counts = users()
            self._had_users = self._had_users or any(counts.values())
            now = [Observation(count, {**self._labels, "user_kind": kind}) for kind, count in counts.items()]
            ended = [Observation(0, {**self._ended, "user_kind": kind}) for kind in counts if self._ended]
            return now + ended

        self._meter.create_observable_gauge("locust.users", [observe], description="Active users, by kind.")
        # Not called for a master, which generates no load: CPU is scarce where the users are.
        observe_process(self._meter)

    @contextmanager
    def task(self, kind: str) -> Iterator[None]:
        """Open the root span of one iteration of a user; its requests are in that trace, marked as synthetic.

        Each request carries the same marks as baggage, so that services can distinguish it from real traffic.
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
    def call(self, kind: str, method: str, route: str, url: str, peer: str = "mythical-server") -> Iterator[Call]:
        """Open the CLIENT span of a request to the service `peer`; yield it with the headers to send."""
        attributes = {
            **self._marks,
            USER_KIND: kind,
            "http.request.method": method,
            "url.full": shown(url),
            "url.template": route,
            "peer.service": peer,
        }
        with self._tracer.start_as_current_span(
            f"{method} {route}", kind=SpanKind.CLIENT, attributes=attributes
        ) as span:
            headers = {"User-Agent": AGENT, **self._authorization}
            propagate.inject(headers)
            yield Call(span, headers)

    def record(self, call: Call, kind: str, route: str, *, method: str, status: int, took_s: float) -> None:
        """Record one response, inside the block of its call, so that the histogram has exemplars."""
        labels: Labels = {**self._labels, "user_kind": kind, "method": method, "route": route, "status": status}
        call.span.set_attribute("http.response.status_code", status)
        self._requests.add(1, labels)
        self._duration.record(took_s, labels)

    def record_checks(self, call: Call, kind: str, verdicts: dict[str, str | None]) -> None:
        """Count checks, and set the expectation on the span if one failed."""
        for check, wrong in verdicts.items():
            labels: Labels = {**self._labels, "user_kind": kind, "check": check}
            self._checks.add(1, {**labels, "result": "failed" if wrong else "held"})
            if wrong:
                self._failures.add(1, {**labels, "reason": check.rpartition(" ")[2]})
                call.span.set_attribute("error.type", check)
                call.span.set_status(Status(StatusCode.ERROR, wrong))

    def record_injected(self, call: Call, kind: str, text: str) -> None:
        """Count an injected fault, which is not a failed check."""
        self._failures.add(1, {**self._labels, "user_kind": kind, "check": "", "reason": "injected"})
        call.span.set_attribute("error.type", "injected")
        call.span.set_status(Status(StatusCode.ERROR, text))

    def close(self) -> None:
        """Export buffered telemetry and shut down."""
        for provider in (self._traces, self._meters):
            if isinstance(provider, SdkTracerProvider | SdkMeterProvider):
                provider.shutdown()


def start_telemetry(settings: Settings) -> Telemetry:
    """Start to export to the collector; without telemetry, requests still carry their marks as baggage."""
    if not settings.telemetry:
        return Telemetry(settings, NoOpTracerProvider(), NoOpMeterProvider())
    remove_unset(os.environ)
    bypass_proxies(settings.collector)
    for handler in logging.getLogger().handlers:
        # What is lost is reported once, and with its cause, which Locust's format would leave out.
        handler.addFilter(is_not_about_a_push)
        handler.addFilter(with_fields)
    who, url, exports = resource(), settings.collector, settings.exports
    metric_exporter = OTLPMetricExporter(f"{url}/v1/metrics", timeout=PUSH_TIMEOUT_S, session=otlp_session())
    meters, _ = meter_provider(
        who,
        metric_exporter if exports["metrics"] else None,
        interval_ms=exports["metric_interval_ms"],
        temporality=exports["metric_temporality"],
    )
    traces = SdkTracerProvider(resource=who, shutdown_on_exit=False)
    if exports["traces"]:
        span_exporter = OTLPSpanExporter(f"{url}/v1/traces", timeout=PUSH_TIMEOUT_S, session=otlp_session())
        traces.add_span_processor(batch_processor(span_exporter, meters))
    return Telemetry(settings, traces, meters)


def resource() -> Resource:
    """Return the resource of this process; OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME take precedence."""
    # Without an instance id, the counters of several processes would be one series that goes up and down.
    instance = f"{socket.gethostname()}-{os.getpid()}"
    known = {"service.name": SERVICE, "service.version": VERSION, "service.instance.id": instance}
    return Resource.create(known).merge(OTELResourceDetector().detect())
