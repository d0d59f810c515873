"""Where log lines go, as settings."""

from dataclasses import dataclass
from typing import Literal

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
