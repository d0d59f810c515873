"""The automatic instrumentation of OpenTelemetry in place of ours: INSTRUMENTATION=zero-code.

It starts in the worker process, before the modules of the service are imported: it replaces `flask.Flask`, and the fork
of the worker would come after an `opentelemetry-instrument` in front of the command, which gRPC does not survive.
"""

import os
from importlib.metadata import entry_points
from typing import get_args
from urllib.parse import quote

from common.core.address import bypass_proxies
from common.telemetry.settings import Signal, TelemetrySettings, set_default_conventions
from common.telemetry.standard_variables import move_credentials, remove_unset


def problem() -> str:
    """Return why it cannot be used, in one line; empty if it can."""
    if entry_points(group="opentelemetry_distro"):
        return ""
    return "opentelemetry-distro is not installed; install the dependency group zero-code"


def prepare(settings: TelemetrySettings) -> None:
    """Start it if the settings ask for it. Call this in the worker process, before anything imports Flask."""
    if settings.instrumentation != "zero-code" or problem():
        return
    from opentelemetry.instrumentation.auto_instrumentation import initialize

    remove_unset(os.environ)
    move_credentials(os.environ)
    bypass_proxies(*settings.collector.addresses())
    set_default_conventions()
    os.environ.update(standard_variables(settings))
    initialize()


def standard_variables(settings: TelemetrySettings) -> dict[str, str]:
    """Return the settings as the variables that it reads; those of the environment take precedence.

    Log lines go over OTLP, unless OTEL_LOGS_EXPORTER=console: the service writes them to standard output anyway.
    """
    from common.telemetry.process import VERSION
    from common.telemetry.traces import SCHEDULE_DELAY_MS

    collector, namespace = settings.collector, quote(settings.namespace)
    signals: tuple[Signal, ...] = get_args(Signal)
    described = {
        "service.namespace": namespace,
        "service.version": VERSION,
        "deployment.environment.name": namespace,
        "deployment.environment": namespace,
    }
    attributes = [f"{name}={value}" for name, value in described.items()]
    variables = {
        "OTEL_SERVICE_NAME": settings.service,
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_PROTOCOL": collector.protocol,
        **{f"OTEL_EXPORTER_OTLP_{name.upper()}_PROTOCOL": collector.protocol_of(name) for name in signals},
        "OTEL_METRIC_EXPORT_INTERVAL": f"{settings.metric_interval_ms:.0f}",
        "OTEL_BSP_SCHEDULE_DELAY": str(SCHEDULE_DELAY_MS),
        **{
            f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT": endpoint
            for signal in signals
            if (endpoint := collector.endpoint(signal))
        },
    }
    own = os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return {name: os.environ.get(name) or value for name, value in variables.items()} | {
        "OTEL_RESOURCE_ATTRIBUTES": ",".join(filter(None, [*attributes, own])),  # of two with one name, the last wins
        "OTEL_LOGS_EXPORTER": "none" if os.environ.get("OTEL_LOGS_EXPORTER") == "console" else "otlp",
    }
