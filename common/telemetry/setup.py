"""Telemetry: the four signals of one process, started together and flushed together."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from opentelemetry.metrics import Meter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Tracer

from common.faults.clock_skew import ClockSkew, ClockSkewFilter
from common.faults.silence import Silent
from common.telemetry.logs.setup import start_logs
from common.telemetry.metrics import meter_provider
from common.telemetry.process_metrics import observe_process
from common.telemetry.profiles import Profiles
from common.telemetry.resource import resource
from common.telemetry.settings import TelemetrySettings
from common.telemetry.traces import tracer_provider

log = logging.getLogger(__name__)

# The four flush side by side and are given this long: with what else has to end, a service whose partners all hang is
# gone in five seconds. Docker waits ten before it kills.
CLOSE_S = 3.0


@dataclass(frozen=True)
class Telemetry:
    """The running signals: a tracer and a meter to work with, a snapshot for /metrics, and close() at the end."""

    settings: TelemetrySettings
    tracer_provider: TracerProvider
    meter_provider: MeterProvider
    tracer: Tracer
    meter: Meter
    snapshot: Callable[[], MetricsData | None]
    handler: logging.Handler
    profiles: Profiles

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Flush all four signals side by side and stop; returns after timeout_s seconds at the latest."""
        self.handler.flush()
        endings: tuple[Callable[[], object], ...] = (
            self.tracer_provider.shutdown,
            self.meter_provider.shutdown,
            self.handler.close,
            lambda: self.profiles.close(timeout_s),
        )
        threads = [threading.Thread(target=ending, name="flush", daemon=True) for ending in endings]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + timeout_s
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))


def start_telemetry(
    settings: TelemetrySettings,
    *,
    job: str,
    scope: str,
    clock_skew_s: ClockSkew | None = None,
    silent: Silent | None = None,
) -> Telemetry:
    """Start the signals of this process. Called once, in the process that does the work, never before a fork.

    `job` is the Loki label of that name; `scope` names the instrumentation in spans and metrics. `clock_skew_s` and
    `silent` are the planted faults clock_shift and silent_telemetry, for a service that shows them.
    """
    who = resource(settings.service, settings.namespace)
    spans_to = settings.collector if settings.enabled and settings.traces else None
    metrics_to = settings.collector if settings.enabled and settings.metrics else None
    name = str(who.attributes["service.name"])  # OTEL_SERVICE_NAME may have changed it: all four signals have to agree
    labels = {"service_name": name, "job": job, "namespace": settings.namespace}

    meters, snapshot = meter_provider(
        who, metrics_to, interval_ms=settings.metric_interval_ms, delta=settings.metric_delta, silent=silent
    )
    meter = meters.get_meter(scope)
    handler = start_logs(settings.logs, labels=labels, resource=who, collector=settings.collector, meter=meter)
    if clock_skew_s:
        handler.addFilter(ClockSkewFilter(clock_skew_s))
    profiles = Profiles.start(
        service=name,
        server_address=settings.profiles_address if settings.enabled else "",
        tags={"namespace": settings.namespace},
        memory=settings.profiles_memory,
    )
    span_profiles = profiles.span_processor()
    tracers = tracer_provider(
        who,
        spans_to,
        *([span_profiles] if span_profiles else []),
        meters=meters,
        clock_skew_s=clock_skew_s,
        silent=silent,
    )
    observe_process(meter)
    log.info(
        "telemetry started",
        extra={
            "fields": {
                "otlp": f"{settings.collector.host}:{settings.collector.port}",
                "logs": settings.logs.destination,
                "profiles": settings.profiles_address or "off, PROFILE_COLLECTOR_HOST is not set",
            }
        },
    )
    return Telemetry(
        settings=settings,
        tracer_provider=tracers,
        meter_provider=meters,
        tracer=tracers.get_tracer(scope),
        meter=meter,
        snapshot=snapshot,
        handler=handler,
        profiles=profiles,
    )
