"""Starts the four signals of a process, registers their providers globally, and flushes them. Read this first."""

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from flask import Flask
from opentelemetry import metrics, propagate, trace
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import CarrierT, Getter, default_getter
from opentelemetry.sdk import version
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter

from common.core.address import join_host_port
from common.core.proxies import bypass_proxies
from common.fast import flask as fast_flask
from common.fast.metrics import FastMeterProvider
from common.fast.spans import FastTracerProvider
from common.telemetry import flask as stock_flask
from common.telemetry.flask import StartAttributes
from common.telemetry.logs import start_logs
from common.telemetry.metrics import HISTOGRAM_AGGREGATION, LatestMetrics, meter_provider
from common.telemetry.process import observe_process, resource
from common.telemetry.profiles import Profiles
from common.telemetry.settings import Collector, TelemetrySettings, set_default_conventions
from common.telemetry.standard_variables import LIMITS, move_credentials, remove_unset
from common.telemetry.traces import batch_processor

log = logging.getLogger(__name__)

# The four signals flush side by side and have this long: with everything else that ends, a service whose partners all
# hang is gone in five seconds. Docker waits ten before it kills.
CLOSE_S = 3.0

# The minor release of the SDK that the tests compare the fast layer with.
TESTED_SDK = "1.45"


@dataclass(frozen=True)
class Telemetry:
    """The running signals of a process."""

    settings: TelemetrySettings
    latest_metrics: LatestMetrics
    instrument_flask: Callable[[Flask, StartAttributes], None]
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
    included. `job` is the Loki label of that name. Two parameters are for injected faults: `wrap_spans` returns what
    exports instead of an exporter of spans; while `silent()` is true, metrics are not exported.
    """
    remove_unset(os.environ)
    move_credentials(os.environ)
    bypass_proxies(*settings.collector.addresses(), settings.logs.target, settings.profiles_address)
    set_default_conventions()
    described = resource(settings.service, settings.namespace)
    name = str(described.attributes["service.name"])  # OTEL_SERVICE_NAME may have changed it; all signals have to agree
    fast, reason = _fast_layer(settings)
    stock_meters, meters, latest_metrics = _meters(settings, described, silent, fast=fast)
    metrics.set_meter_provider(meters)
    meter = metrics.get_meter(__name__)

    labels = {"service_name": name, "job": job, "namespace": settings.namespace}
    handler = start_logs(settings.logs, labels=labels, resource=described, collector=settings.collector, meter=meter)
    profiles = Profiles(
        service=name,
        server_address=settings.profiles_address if settings.enabled else "",
        tags={"namespace": settings.namespace},
        headers=settings.profiles_headers,
        memory=settings.profiles_memory,
    )
    tracers = _tracers(described, fast=fast)
    if profile_labels := profiles.span_processor():
        tracers.add_span_processor(profile_labels)
    if settings.enabled and settings.traces:
        exporter = wrap_spans(_span_exporter(settings.collector, fast=fast))
        tracers.add_span_processor(batch_processor(exporter, stock_meters))
    trace.set_tracer_provider(tracers)
    if os.environ.get("OTEL_PROPAGATORS", "").strip().lower() == "none":
        propagate.set_global_textmap(_NoPropagator([]))
    observe_process(meter)
    if reason:
        log.warning("fast telemetry layer not used", extra={"fields": {"reason": reason}})
    log.info(
        "telemetry started",
        extra={
            "fields": {
                "otlp": join_host_port(settings.collector.host, settings.collector.port),
                "logs": settings.logs.destination,
                "profiles": settings.profiles_address or "off, PROFILE_COLLECTOR_HOST is not set",
                "layer": "fast" if fast else "stock",
            }
        },
    )
    return Telemetry(
        settings=settings,
        latest_metrics=latest_metrics,
        instrument_flask=fast_flask.instrument_flask if fast else stock_flask.instrument_flask,
        handler=handler,
        profiles=profiles,
        shutdown=(tracers.shutdown, meters.shutdown),
    )


def _fast_layer(settings: TelemetrySettings) -> tuple[bool, str]:
    """Return whether the fast layer can do what is set, and a reason that is worth a warning if not."""
    if settings.layer != "fast" or not settings.enabled or any(os.environ.get(limit) for limit in LIMITS):
        return False, ""
    if not version.__version__.startswith(f"{TESTED_SDK}."):
        return False, f"opentelemetry-sdk {version.__version__} is installed, and the layer is tested with {TESTED_SDK}"
    return True, ""


def _meters(
    settings: TelemetrySettings, described: Resource, silent: Callable[[], bool], *, fast: bool
) -> tuple[MeterProvider, FastMeterProvider | MeterProvider, LatestMetrics]:
    """Return the SDK's provider, the one to register, and the function that returns the latest metrics."""
    exporter = settings.collector.exporter("metrics") if settings.enabled and settings.metrics else None
    start = partial(
        meter_provider,
        described,
        exporter,
        interval_ms=settings.metric_interval_ms,
        temporality=settings.metric_temporality,
        silent=silent,
    )
    # Its histograms have explicit buckets, totals, and exemplars of sampled spans; another choice is the SDK's to make.
    others = (HISTOGRAM_AGGREGATION, "OTEL_METRICS_EXEMPLAR_FILTER")
    if not fast or settings.metric_temporality != "cumulative" or any(os.environ.get(name) for name in others):
        stock, latest = start()
        return stock, stock, latest
    meters = FastMeterProvider(described)
    meters.stock, latest = start(add_points=meters.add_points)
    return meters.stock, meters, latest


def _tracers(described: Resource, *, fast: bool) -> FastTracerProvider | TracerProvider:
    stock = TracerProvider(resource=described, shutdown_on_exit=False)
    return FastTracerProvider(stock) if fast else stock


def _span_exporter(collector: Collector, *, fast: bool) -> SpanExporter:
    exporter: SpanExporter | None = None
    if fast and collector.protocol_of("traces") == "grpc":
        # Imported when used: gRPC takes 20 MB.
        from common.fast.exporter import plaintext_grpc_exporter

        exporter = plaintext_grpc_exporter(collector.endpoint("traces"))
    return exporter or collector.exporter("traces")


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
