"""Starts the four signals of a process, registers their providers globally, and flushes them. Read this first."""

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

from opentelemetry import metrics, propagate, trace
from opentelemetry._logs import get_logger_provider
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider, NoOpMeterProvider
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import CarrierT, Getter, default_getter
from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.trace import NoOpTracerProvider, TracerProvider

from common.core.address import bypass_proxies, join_host_port
from common.telemetry import zero_code
from common.telemetry.logs import console_handler, start_logs
from common.telemetry.metrics import LatestMetrics, meter_provider
from common.telemetry.process import observe_process, resource
from common.telemetry.profiles import Profiles
from common.telemetry.settings import MANUAL, TelemetrySettings, set_default_conventions
from common.telemetry.standard_variables import move_credentials, remove_unset
from common.telemetry.traces import batch_processor

log = logging.getLogger(__name__)

# The four signals flush side by side and have this long: with everything else that ends, a service whose partners all
# hang is gone in five seconds. Docker waits ten before it kills.
CLOSE_S = 3.0


@dataclass(frozen=True)
class Telemetry:
    """The running signals of a process; our own code gets its tracers and meters from the two providers."""

    tracers: TracerProvider
    meters: MeterProvider
    latest_metrics: LatestMetrics
    instrument_flask: Callable[..., None] | None  # of the fast layer; None: that of common/telemetry/flask.py
    handler: logging.Handler
    profiles: Profiles
    shutdown: tuple[Callable[[], object], ...]

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Flush all four signals side by side and stop; return after `timeout_s` seconds at the latest."""
        self.handler.flush()
        endings = (*self.shutdown, self.handler.close, lambda: self.profiles.close(timeout_s))
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
    wrap_spans: Callable[[SpanExporter], SpanExporter] = lambda exporter: exporter,
    silent: Callable[[], bool] = lambda: False,
) -> Telemetry:
    """Start the signals of this process and register their providers globally.

    Call it once, in the process that does the work, never before a fork: threads don't survive one. From then on
    `trace.get_tracer(__name__)` and `metrics.get_meter(__name__)` record in every module, instrumentation libraries
    included. Where others instrument the process, the two providers that are returned record nothing. `job` is the Loki
    label of that name. Two parameters are for injected faults: `wrap_spans` returns what exports instead of an exporter
    of spans; while `silent()` is true, neither spans nor metrics are exported.
    """
    if settings.instrumentation not in MANUAL:
        return _left_to_others(settings)
    remove_unset(os.environ)
    move_credentials(os.environ)
    bypass_proxies(*settings.collector.addresses(), settings.logs.target, settings.profiles_address)
    set_default_conventions()
    described = resource(settings.service, settings.namespace)
    name = str(described.attributes["service.name"])  # OTEL_SERVICE_NAME may have changed it; all signals have to agree
    fast, reason = _fast_layer(settings)
    collector = fast.FastCollector(**vars(settings.collector)) if fast else settings.collector
    fast_meters = fast.meter_provider(described, settings) if fast else None
    stock_meters, latest_metrics = meter_provider(
        described,
        collector.exporter("metrics") if settings.enabled and settings.metrics else None,
        interval_ms=settings.metric_interval_ms,
        temporality=settings.metric_temporality,
        silent=silent,
        **({"add_points": fast_meters.add_points} if fast_meters else {}),
    )
    if fast_meters:
        fast_meters.stock = stock_meters
    meters = fast_meters or stock_meters
    metrics.set_meter_provider(meters)
    meter = metrics.get_meter(__name__)

    labels = {"service_name": name, "job": job, "namespace": settings.namespace}
    handler = start_logs(settings.logs, labels=labels, resource=described, collector=collector, meter=meter)
    profiles = Profiles(
        service=name,
        server_address=settings.profiles_address if settings.enabled else "",
        tags={"namespace": settings.namespace},
        headers=settings.profiles_headers,
        memory=settings.profiles_memory,
    )
    stock_tracers = SdkTracerProvider(resource=described, shutdown_on_exit=False)
    tracers = fast.FastTracerProvider(stock_tracers) if fast else stock_tracers
    if profile_labels := profiles.span_processor():
        tracers.add_span_processor(profile_labels)
    if settings.enabled and settings.traces:
        exporter = wrap_spans(collector.exporter("traces"))
        tracers.add_span_processor(batch_processor(exporter, stock_meters, silent))
    trace.set_tracer_provider(tracers)
    if os.environ.get("OTEL_PROPAGATORS", "").strip().lower() == "none":
        propagate.set_global_textmap(_NoPropagator([]))
    observe_process(meter)
    if reason:
        log.warning("fast telemetry layer not used", extra={"fields": {"reason": reason}})
    _report_deprecated()
    log.info(
        "telemetry started",
        extra={
            "fields": {
                "otlp": join_host_port(settings.collector.host, settings.collector.port),
                "logs": settings.logs.destination,
                "profiles": settings.profiles_address or "off, PROFILE_COLLECTOR_HOST is not set",
                "instrumentation": "fast" if fast else "stock",
            }
        },
    )
    return Telemetry(
        tracers=tracers,
        meters=meters,
        latest_metrics=latest_metrics,
        instrument_flask=fast.instrument_flask if fast else None,
        handler=handler,
        profiles=profiles,
        shutdown=(tracers.shutdown, meters.shutdown),
    )


def _left_to_others(settings: TelemetrySettings) -> Telemetry:
    """Return telemetry of which our code makes nothing but lines on standard output.

    With `off` there is nothing else; with `ebpf` Beyla makes the rest, with `zero-code` the automatic instrumentation,
    which zero_code.py has started.
    """
    handler = console_handler(settings.logs)
    root = logging.getLogger()
    root.setLevel(settings.logs.level)
    root.addHandler(handler)
    shutdown: list[Callable[[], object]] = []
    rung, problem = settings.instrumentation, zero_code.problem()
    if rung == "zero-code" and problem:
        log.warning("zero-code instrumentation not available", extra={"fields": {"reason": problem}})
        rung = "off"
    elif rung == "zero-code":
        # The SDK would do it at exit, which a worker process does not reach.
        providers = (trace.get_tracer_provider(), metrics.get_meter_provider(), get_logger_provider())
        shutdown = [stop for provider in providers if (stop := getattr(provider, "shutdown", None))]
    _report_deprecated()
    log.info("telemetry started", extra={"fields": {"instrumentation": rung}})
    return Telemetry(
        tracers=NoOpTracerProvider(),
        meters=NoOpMeterProvider(),
        latest_metrics=lambda: None,
        instrument_flask=None,
        handler=handler,
        profiles=Profiles(service=settings.service, server_address="", tags={}),
        shutdown=tuple(shutdown),
    )


def _report_deprecated() -> None:
    if os.environ.get("TELEMETRY_LAYER"):
        log.warning("TELEMETRY_LAYER is deprecated, set INSTRUMENTATION instead")


def _fast_layer(settings: TelemetrySettings) -> tuple[ModuleType | None, str]:
    """Return the fast layer if it can do what is set, else a reason that is worth a warning."""
    if settings.instrumentation != "fast" or not settings.enabled:
        return None, ""
    from common.fast import layer  # here, since it is optional: a copy without it needs INSTRUMENTATION=stock

    problem = layer.problem()
    return (layer, "") if problem is None else (None, problem)


class _NoPropagator(CompositePropagator):
    """The SDK's for OTEL_PROPAGATORS=none, but for a context where the caller has none: the SDK's returns nothing."""

    def extract(
        self,
        carrier: CarrierT,  # noqa: ARG002 - the API's signature
        context: Context | None = None,
        getter: Getter[CarrierT] = default_getter,  # noqa: ARG002
    ) -> Context:
        """Return the context as it is."""
        return Context() if context is None else context
