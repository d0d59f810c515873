"""Alerts on causes: failures that the SLOs cannot see, or that make the SLOs blind."""

from dataclasses import dataclass

from mimir.source.scales import Scale
from tools.suite import SERVICES

# Alloy's counters of data that it could not forward and will not retry, by signal.
DROPPED = (
    ("traces", "otelcol_exporter_send_failed_spans_total"),
    ("traces", "otelcol_exporter_enqueue_failed_spans_total"),
    ("metrics", "prometheus_remote_storage_samples_failed_total"),
    ("logs", "loki_write_dropped_entries_total"),
    ("profiles", "pyroscope_write_dropped_profiles_total"),
)


@dataclass(frozen=True)
class Cause:
    """An alert that is not on an SLO; `summary` is a Prometheus template."""

    alert: str
    severity: str
    expression: str
    hold: str
    summary: str


def causes(scale: Scale) -> tuple[Cause, ...]:
    """Return the alerts on causes, with the windows of a scale."""
    return (nothing_recorded(scale), dead_letters(scale), telemetry_missing(scale), alloy_dropping(scale))


def nothing_recorded(scale: Scale) -> Cause:
    """Messages wait and none is recorded: a recorder that hangs produces no events, so no SLO can count bad ones."""
    waiting = (
        'max(mythical_queue_messages{queue="messages"} or rabbitmq_detailed_queue_messages_ready{queue="messages"})'
    )
    moving = f"sum(rate(mythical_messages_recorded_total[{scale.cause}]))"
    return Cause(
        "NothingRecorded",
        "page",
        f"{waiting} > 0\nunless\n{moving} > 0",
        scale.cause,
        "{{ $value }} messages are waiting and none is being recorded.",
    )


def dead_letters(scale: Scale) -> Cause:
    """Messages are dead-lettered. The counter does not exist before the first one; the queue's depth does."""
    counted = f"sum(increase(mythical_messages_dead_lettered_total[{scale.cause}]))"
    waiting = f'max(delta(mythical_queue_messages{{queue="messages.dead"}}[{scale.cause}]))'
    return Cause(
        "DeadLettersGrowing",
        "ticket",
        f"{waiting} > 0\nor\n{counted} > 0",
        "0s",
        "Messages are being dead-lettered to messages.dead.",
    )


def telemetry_missing(scale: Scale) -> Cause:
    """A service sends no telemetry: every SLO is then computed from incomplete data, or from none."""
    metric = 'process_cpu_time_seconds_total{{service="{service}"}}[{window}]'
    missing = [f"absent_over_time({metric.format(service=service.name, window=scale.cause)})" for service in SERVICES]
    return Cause(
        "TelemetryMissing",
        "page",
        "\nor\n".join(missing),
        scale.silence,
        "No telemetry received from {{ $labels.service }}.",
    )


def alloy_dropping(scale: Scale) -> Cause:
    """Alloy dropped data permanently, so panels under-report.

    Each counter is compared separately: of two counters of one signal, the first would otherwise hide the second.
    """
    lost = [
        f'label_replace(sum(rate({metric}[{scale.cause}])) > 0, "signal", "{signal}", "", "")'
        for signal, metric in DROPPED
    ]
    return Cause(
        "AlloyDropping",
        "ticket",
        "\nor\n".join(lost),
        "0s",
        "Alloy drops {{ $labels.signal }}: {{ $value | humanize }} per second.",
    )
