"""Where log lines go, as settings."""

from dataclasses import dataclass
from typing import Literal

from common.core.env import Env

# The SDK's own default, and the size of a batch, below which its queue must not be.
OTLP_QUEUE_LINES, OTLP_BATCH_LINES = 2048, 512


@dataclass(frozen=True)
class LogSettings:
    """Where lines go (`loki` needs the push address `target`), from which level on, how many may wait for OTLP."""

    way: Literal["loki", "console", "otlp"]
    target: str
    level: str
    queue_lines: int = OTLP_QUEUE_LINES


def log_settings(env: Env) -> LogSettings:
    """Read them: LOGS_TARGET means Loki, OTEL_LOGS_EXPORTER=otlp means OTLP and wins, nothing means standard output.

    With OTEL_SDK_DISABLED the SDK takes no lines for OTLP and says nothing of it: they go to standard output then.
    """
    target = env.url("LOGS_TARGET", "")
    exporter = env.choice("OTEL_LOGS_EXPORTER", "none", ("none", "console", "otlp"))
    level = env.choice("LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR"))
    queue = env.integer("OTEL_BLRP_MAX_QUEUE_SIZE", OTLP_QUEUE_LINES, OTLP_BATCH_LINES, 1_000_000)
    if exporter == "otlp" and not env.flag("OTEL_SDK_DISABLED", default=False):
        return LogSettings("otlp", target, level, queue)
    return LogSettings("loki" if target and exporter == "none" else "console", target, level)
