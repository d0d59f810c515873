"""Where log lines go: chosen once, at start."""

import logging
import sys
from dataclasses import dataclass
from typing import Literal

from opentelemetry.metrics import Meter
from opentelemetry.sdk.resources import Resource

from common.logs.console import LogfmtFormatter
from common.logs.loki import BatchLokiHandler
from common.logs.otlp import OtlpHandler
from common.logs.records import TraceIds
from common.otlp import Collector
from common.settings import Env


@dataclass(frozen=True)
class LogSettings:
    """Where lines go (`loki` needs the push address `target`) and from which level on."""

    way: Literal["loki", "console", "otlp"]
    target: str
    level: str


def log_settings(env: Env) -> LogSettings:
    """Read them: LOGS_TARGET means Loki, OTEL_LOGS_EXPORTER=otlp means OTLP and wins, nothing means standard output."""
    target = env.url("LOGS_TARGET", "")
    exporter = env.choice("OTEL_LOGS_EXPORTER", "none", ("none", "console", "otlp"))
    level = env.choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"))
    if exporter == "otlp":
        return LogSettings("otlp", target, level)
    return LogSettings("loki" if target and exporter == "none" else "console", target, level)


def start_logs(
    settings: LogSettings, *, labels: dict[str, str], resource: Resource, collector: Collector, meter: Meter
) -> logging.Handler:
    """Send the process's log records where the settings say; give the handler, whose close() flushes.

    Counts `mythical_log_lines_dropped` by `reason`, so that a gap in the logs can be told from silence.
    """
    dropped = meter.create_counter("mythical_log_lines_dropped", description="Log lines given up, by reason.")
    handler: logging.Handler
    if settings.way == "loki":
        handler = BatchLokiHandler(settings.target, labels, lambda n, reason: dropped.add(n, {"reason": reason}))
    elif settings.way == "otlp":
        handler = OtlpHandler(resource, collector)
    else:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(LogfmtFormatter())
    handler.addFilter(TraceIds())
    root = logging.getLogger()
    root.setLevel(settings.level)
    root.handlers[:] = [handler]
    return handler
