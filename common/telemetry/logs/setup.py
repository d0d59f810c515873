"""Where log lines go: chosen once, at the start, by the environment."""

import logging
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from common.core.env import Env
from common.telemetry.logs.records import LogfmtFormatter, TraceContextFilter

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter
    from opentelemetry.sdk.resources import Resource

    from common.telemetry.otlp import Collector

# The SDK's own default, and the size of a batch, below which its queue must not be.
OTLP_QUEUE_LINES, OTLP_BATCH_LINES = 2048, 512


@dataclass(frozen=True)
class LogSettings:
    """Where lines go (`loki` needs the push address `target`), the lowest level, how many may wait for OTLP."""

    destination: Literal["loki", "console", "otlp"]
    target: str
    level: str
    queue_lines: int = OTLP_QUEUE_LINES


def log_settings(env: Env) -> LogSettings:
    """Read them: LOGS_TARGET means Loki, OTEL_LOGS_EXPORTER=otlp means OTLP and wins, nothing means standard output.

    With OTEL_SDK_DISABLED the SDK silently discards lines for OTLP: they go to standard output then.
    """
    target = env.url("LOGS_TARGET", "")
    exporter = env.choice("OTEL_LOGS_EXPORTER", "none", ("none", "console", "otlp"))
    level = env.choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"))
    queue = env.integer("OTEL_BLRP_MAX_QUEUE_SIZE", OTLP_QUEUE_LINES, OTLP_BATCH_LINES, 1_000_000)
    if exporter == "otlp" and not env.flag("OTEL_SDK_DISABLED", default=False):
        return LogSettings("otlp", target, level, queue)
    return LogSettings("loki" if target and exporter == "none" else "console", target, level)


def start_logs(
    settings: LogSettings, *, labels: dict[str, str], resource: "Resource", collector: "Collector", meter: "Meter"
) -> logging.Handler:
    """Send the process's log records where the settings say; return the handler, whose close() flushes.

    Counts `mythical_log_lines_dropped` by `reason`, so that a gap in the logs is not mistaken for silence.
    """
    lines = meter.create_counter("mythical_log_lines_dropped", description="Log lines dropped, by reason.")

    def dropped(number: int, reason: str) -> None:
        lines.add(number, {"reason": reason})

    handler: logging.Handler
    # Imported when needed: each handler's libraries need memory.
    if settings.destination == "loki":
        from common.telemetry.logs.loki import BatchLokiHandler

        handler = BatchLokiHandler(settings.target, labels, dropped)
    elif settings.destination == "otlp":
        from common.telemetry.logs.otlp import OtlpHandler

        handler = OtlpHandler(resource, collector, dropped, settings.queue_lines)
    else:
        from common.core.cli import replace_unprintable

        replace_unprintable()
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(LogfmtFormatter())
    handler.addFilter(TraceContextFilter())
    disable_caller_lookup()
    root = logging.getLogger()
    root.setLevel(settings.level)
    root.handlers[:] = [handler]
    return handler


def disable_caller_lookup() -> None:
    """Keep each record from looking up its caller, thread and process, which no line shows: 3.8 µs instead of 6.3.

    Source: the Python documentation, logging HOWTO, "Optimization".
    """
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
