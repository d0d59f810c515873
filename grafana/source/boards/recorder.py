"""Recorder and RabbitMQ: queue depth, processing time, and dead-lettered messages."""

from grafana.source.board import Board, QueryVariable, Row
from grafana.source.links import explore
from grafana.source.panels import lines, logs, override, stat, thresholds
from grafana.source.queries import SCRAPED, log_lines, metric, traces

RATE = "sum(rate({name}[$__rate_interval]))"
# The broker's metrics of each queue are scraped every 5 s; those of the node every 10 s.
QUEUE = 'queue=~"$queue"'
RECORDED = RATE.format(name="mythical_messages_recorded_total")


def or_none(name: str) -> str:
    """Return PromQL for the rate of a counter that does not exist before its first increment."""
    return f"{RATE.format(name=name)} or vector(0)"


def quantile(q: str, histogram: str) -> str:
    """Return PromQL for a quantile of a histogram."""
    return f"histogram_quantile({q}, sum by (le) (rate({histogram}_bucket[$__rate_interval])))"


def now() -> Row:
    """Return the row with the state at a glance."""
    return Row(
        "Now",
        (
            stat(
                "Messages waiting",
                "Messages in the queue that have not been delivered yet.",
                "short",
                metric('sum(mythical_queue_messages{queue="messages"})', "waiting"),
                thresholds=thresholds((None, "green"), (500, "yellow"), (5000, "red")),
            ),
            stat(
                "Time to drain",
                "Time to process the waiting messages at the current rate: the delay of a message published now.",
                "s",
                metric(f'sum(mythical_queue_messages{{queue="messages"}}) / clamp_min({RECORDED}, 0.1)', "lag"),
                thresholds=thresholds((None, "green"), (10, "yellow"), (60, "red")),
            ),
            stat(
                "Dead letters",
                "Messages that were dead-lettered and wait for inspection.",
                "short",
                metric('sum(mythical_queue_messages{queue="messages.dead"})', "dead"),
                thresholds=thresholds((None, "green"), (1, "red")),
            ),
            stat(
                "Consumers",
                "Consumers of the queue. With none, the queue only grows.",
                "short",
                metric('sum(rabbitmq_detailed_queue_consumers{queue="messages"})', "consumers"),
                thresholds=thresholds((None, "red"), (1, "green")),
            ),
        ),
    )


def flow() -> Row:
    """Return the row from the requester through the broker to the recorder."""
    return Row(
        "Through the queue",
        (
            lines(
                "Published, confirmed, recorded",
                "Messages per second: published by the requester, confirmed by the broker, processed by the recorder.",
                "mps",
                metric(RATE.format(name="messaging_client_sent_messages_total"), "sent"),
                metric(RATE.format(name="rabbitmq_channel_messages_confirmed_total"), "confirmed", every=SCRAPED),
                metric(RECORDED, "recorded"),
            ),
            lines(
                "Depth",
                "Messages in each queue that are ready, and those delivered but not yet acknowledged.",
                "short",
                metric(f"sum by (queue) (mythical_queue_messages{{{QUEUE}}})", "{{queue}} ready"),
                metric(
                    f"sum by (queue) (rabbitmq_detailed_queue_messages_unacked{{{QUEUE}}})", "{{queue}} unacknowledged"
                ),
            ),
            lines(
                "Retried and dead-lettered",
                "Messages per second that were requeued for another attempt, and that were dead-lettered.",
                "mps",
                metric(or_none("mythical_messages_retried_total"), "retried"),
                metric(or_none("mythical_messages_dead_lettered_total"), "dead-lettered"),
                metric(or_none("mythical_messages_redelivered_total"), "delivered again"),
            ),
            lines(
                "Unconfirmed messages",
                "Published messages that the broker has not confirmed yet. With several hundred, the broker is slow.",
                "short",
                metric("sum(mythical_publisher_in_flight)", "not confirmed"),
            ),
        ),
    )


def durations() -> Row:
    """Return the row with the duration of each step."""
    waited = traces('{ name = "process_message" && span.mythical.message.wait_s > 1.0 }')
    slow = traces('{ name = "process_message" && duration > 100ms }')
    return Row(
        "Duration",
        (
            lines(
                "Processing time",
                "Time that the recorder needs for one message. Each point is one message and links to its trace.",
                "s",
                metric(quantile("0.5", "messaging_process_duration_seconds"), "median"),
                metric(quantile("0.95", "messaging_process_duration_seconds"), "p95", exemplars=True),
                links=[explore("Traces of slow messages", slow)],
            ),
            lines(
                "Time in the queue",
                "Time from sending a message until the recorder starts to process it. Each point links to its trace.",
                "s",
                metric(quantile("0.5", "mythical_message_wait_seconds"), "median"),
                metric(quantile("0.95", "mythical_message_wait_seconds"), "p95", exemplars=True),
                links=[explore("Traces of messages that waited", waited)],
            ),
            lines(
                "Age of the oldest message",
                "Age of the oldest message that is not acknowledged. It rises steadily while the recorder is stuck.",
                "s",
                metric("max(mythical_queue_oldest_age_seconds)", "oldest"),
            ),
            lines(
                "Time to confirm",
                "Time from publishing a message until the broker confirms it.",
                "s",
                metric(quantile("0.5", "messaging_client_operation_duration_seconds"), "median"),
                metric(quantile("0.95", "messaging_client_operation_duration_seconds"), "p95", exemplars=True),
            ),
        ),
    )


def broker() -> Row:
    """Return the row with the broker's resources."""
    return Row(
        "RabbitMQ",
        (
            lines(
                "Memory",
                "Memory of the broker, and the limit at which it blocks publishers.",
                "bytes",
                metric("rabbitmq_process_resident_memory_bytes", "resident", every=SCRAPED),
                metric("rabbitmq_resident_memory_limit_bytes", "limit", every=SCRAPED),
                width=8,
                overrides=[override("limit", custom__lineStyle={"fill": "dash"}, custom__fillOpacity=0)],
            ),
            lines(
                "Connections and channels",
                "Open connections. The requester, the recorder, and the frontend hold one each.",
                "short",
                metric("rabbitmq_connections", "connections", every=SCRAPED),
                metric("rabbitmq_channels", "channels", every=SCRAPED),
                width=8,
            ),
            lines(
                "Traffic",
                "Bytes per second received and sent by the broker.",
                "Bps",
                metric(RATE.format(name="rabbitmq_connection_incoming_bytes_total"), "in", every=SCRAPED),
                metric(RATE.format(name="rabbitmq_connection_outgoing_bytes_total"), "out", every=SCRAPED),
                width=8,
            ),
            logs(
                "Recorder log",
                "Log lines of the recorder. The button of a line opens its trace.",
                log_lines('{service_name="mythical-recorder"}'),
            ),
        ),
    )


def board() -> Board:
    """Return the dashboard."""
    return Board(
        "recorder-rabbitmq",
        "mythical-recorder",
        "Recorder and RabbitMQ",
        "Queue depth, processing time, and dead-lettered messages.",
        (now(), flow(), durations(), broker()),
        (QueryVariable("queue", "Queue", "mythical_queue_messages", "queue"),),
    )
