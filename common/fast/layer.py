"""The fast layer as a whole: which of its parts are used. common/telemetry/setup.py imports this file only."""

import os
from typing import Any

from opentelemetry.sdk import version
from opentelemetry.sdk.resources import Resource

from common.fast.flask import instrument_flask
from common.fast.metrics import FastMeterProvider
from common.fast.spans import FastTracerProvider
from common.telemetry.metrics import HISTOGRAM_AGGREGATION
from common.telemetry.settings import Collector, Signal, TelemetrySettings
from common.telemetry.standard_variables import LIMITS

__all__ = ["FastCollector", "FastTracerProvider", "instrument_flask", "meter_provider", "problem"]

# The minor release of the SDK that the tests compare the layer with.
TESTED_SDK = "1.45"


def problem() -> str | None:
    """Return None if the layer can be used, "" where a setting needs the SDK's own spans, or a reason to report."""
    if any(os.environ.get(limit) for limit in LIMITS):
        return ""
    if not version.__version__.startswith(f"{TESTED_SDK}."):
        return f"opentelemetry-sdk {version.__version__} is installed, and the layer is tested with {TESTED_SDK}"
    return None


def meter_provider(described: Resource, settings: TelemetrySettings) -> FastMeterProvider | None:
    """Return the provider of meters; None where the settings want other histograms than it makes.

    They have explicit buckets, totals, and exemplars of sampled spans.
    """
    others = (HISTOGRAM_AGGREGATION, "OTEL_METRICS_EXEMPLAR_FILTER")
    if settings.metric_temporality != "cumulative" or any(os.environ.get(name) for name in others):
        return None
    return FastMeterProvider(described)


class FastCollector(Collector):
    """The collector with exporters that are faster and read its answers, over gRPC without TLS."""

    def exporter(self, signal: Signal) -> Any:
        """Return what sends a signal to the collector."""
        exporter = None
        if self.protocol_of(signal) == "grpc":
            from common.fast.exporter import plaintext_grpc_exporter  # imported when used: gRPC takes 20 MB

            exporter = plaintext_grpc_exporter(self.endpoint(signal), signal)
        return exporter or super().exporter(signal)
