"""The few causes that are worth an alert of their own: each is blind to the objectives, or blinds them."""

from dataclasses import dataclass

from mimir.source.scales import Scale

SERVICES = ("mythical-requester", "mythical-server", "mythical-recorder")
# What Alloy counts of what it could not hand on and will not try again, by signal.
LOST = (
    ("traces", "otelcol_exporter_send_failed_spans_total"),
    ("traces", "otelcol_exporter_enqueue_failed_spans_total"),
    ("metrics", "prometheus_remote_storage_samples_failed_total"),
    ("logs", "loki_write_dropped_entries_total"),
    ("profiles", "pyroscope_write_dropped_profiles_total"),
)


@dataclass(frozen=True)
class Cause:
    """An alert without an objective; `summary` is a template of Prometheus."""

    alert: str
    severity: str
    expression: str
    hold: str
    summary: str


def causes(scale: Scale) -> tuple[Cause, ...]:
    """Return the alerts on causes, with the windows of a scale."""
    return (nothing_recorded(scale), dead_letters(scale), telemetry_missing(scale), alloy_dropping(scale))


def nothing_recorded(scale: Scale) -> Cause:
    """Messages wait and none is recorded: a recorder that stands still makes no events, so no share of them is bad."""
    waiting = (
        'max(mythical_queue_messages{queue="messages"} or rabbitmq_detailed_queue_messages_ready{queue="messages"})'
    )
    moving = f"sum(rate(mythical_messages_recorded_total[{scale.cause}]))"
    return Cause(
        "NothingRecorded",
        "page",
        f"{waiting} > 0\nunless\n{moving} > 0",
        scale.cause,
        "{{ $value }} messages wait and none is recorded.",
    )


def dead_letters(scale: Scale) -> Cause:
    """Messages are given up. Their counter does not exist before the first one, the depth of their queue does."""
    counted = f"sum(increase(mythical_messages_dead_lettered_total[{scale.cause}]))"
    waiting = f'max(delta(mythical_queue_messages{{queue="messages.dead"}}[{scale.cause}]))'
    return Cause(
        "DeadLettersGrowing",
        "ticket",
        f"{waiting} > 0\nor\n{counted} > 0",
        "0s",
        "Messages are given up and moved to messages.dead.",
    )


def telemetry_missing(scale: Scale) -> Cause:
    """A service tells nothing: then every objective above is computed from what is left, or from nothing."""
    metric = 'process_cpu_time_seconds_total{{service="{service}"}}[{window}]'
    missing = [f"absent_over_time({metric.format(service=service, window=scale.cause)})" for service in SERVICES]
    return Cause(
        "TelemetryMissing",
        "page",
        "\nor\n".join(missing),
        scale.silence,
        "Nothing is heard of {{ $labels.service }}.",
    )


def alloy_dropping(scale: Scale) -> Cause:
    """Alloy lost something for good; the panels show less than there was.

    Each is compared by itself: of two counters of one signal, the first would otherwise hide the second.
    """
    lost = [
        f'label_replace(sum(rate({metric}[{scale.cause}])) > 0, "signal", "{signal}", "", "")'
        for signal, metric in LOST
    ]
    return Cause(
        "AlloyDropping",
        "ticket",
        "\nor\n".join(lost),
        "0s",
        "Alloy drops {{ $labels.signal }}: {{ $value | humanize }} per second.",
    )
