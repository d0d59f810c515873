"""Recorder and RabbitMQ: what waits in the queue, how long it takes to work it off, and what was given up."""

from grafana.source.board import Board, Row
from grafana.source.links import explore
from grafana.source.panels import lines, logs, override, stat, thresholds
from grafana.source.queries import FETCHED, log_lines, metric, traces
from grafana.source.variables import Choice

RATE = "sum(rate({name}[$__rate_interval]))"
# The broker's own figures, each queue by name, come every 5 s; those of the node every 10 s.
QUEUE = 'queue=~"$queue"'
RECORDED = RATE.format(name="mythical_messages_recorded_total")


def or_none(name: str) -> str:
    """Return PromQL for the rate of a counter that does not exist until it counts for the first time."""
    return f"{RATE.format(name=name)} or vector(0)"


def quantile(q: str, histogram: str) -> str:
    """Return PromQL for a quantile of a histogram."""
    return f"histogram_quantile({q}, sum by (le) (rate({histogram}_bucket[$__rate_interval])))"


def now() -> Row:
    """The state at a glance."""
    return Row(
        "Now",
        (
            stat(
                "Messages waiting",
                "Messages in the queue that nobody has taken yet.",
                "short",
                metric('sum(mythical_queue_messages{queue="messages"})', "waiting"),
                thresholds=thresholds((None, "green"), (500, "yellow"), (5000, "red")),
            ),
            stat(
                "Time to drain",
                "How long the recorder needs for what waits, at its present pace: the lag of a message that comes now.",
                "s",
                metric(f'sum(mythical_queue_messages{{queue="messages"}}) / clamp_min({RECORDED}, 0.1)', "lag"),
                thresholds=thresholds((None, "green"), (10, "yellow"), (60, "red")),
            ),
            stat(
                "Dead letters",
                "Messages that were given up and wait for someone to look at them.",
                "short",
                metric('sum(mythical_queue_messages{queue="messages.dead"})', "dead"),
                thresholds=thresholds((None, "green"), (1, "red")),
            ),
            stat(
                "Consumers",
                "Connections that take messages from the queue. None: it only fills.",
                "short",
                metric('sum(rabbitmq_detailed_queue_consumers{queue="messages"})', "consumers"),
                thresholds=thresholds((None, "red"), (1, "green")),
            ),
        ),
    )


def flow() -> Row:
    """From the requester through the broker to the recorder."""
    return Row(
        "Through the queue",
        (
            lines(
                "Sent, confirmed, recorded",
                "Messages per second: handed over by the requester, confirmed by the broker, done by the recorder.",
                "mps",
                metric(RATE.format(name="messaging_client_sent_messages_total"), "sent"),
                metric(RATE.format(name="rabbitmq_channel_messages_confirmed_total"), "confirmed", every=FETCHED),
                metric(RECORDED, "recorded"),
            ),
            lines(
                "Depth",
                "Messages in each queue that are ready, and those that were taken but are not acknowledged yet.",
                "short",
                metric(f"sum by (queue) (mythical_queue_messages{{{QUEUE}}})", "{{queue}} ready"),
                metric(
                    f"sum by (queue) (rabbitmq_detailed_queue_messages_unacked{{{QUEUE}}})", "{{queue}} unacknowledged"
                ),
            ),
            lines(
                "Retried and given up",
                "Messages per second that were put aside for another attempt, and that were moved to the dead letters.",
                "mps",
                metric(or_none("mythical_messages_retried_total"), "retried"),
                metric(or_none("mythical_messages_dead_lettered_total"), "given up"),
                metric(or_none("rabbitmq_detailed_queue_messages_redelivered_total"), "delivered again"),
            ),
            lines(
                "Hand-overs under way",
                "Messages that the broker has not confirmed yet. Above some hundreds the broker is what is slow.",
                "short",
                metric("sum(mythical_publisher_in_flight)", "not confirmed"),
            ),
        ),
    )


def durations() -> Row:
    """How long each step takes."""
    slow = traces('{ name = "process_message" && duration > 100ms }')
    return Row(
        "Duration",
        (
            lines(
                "Work on a message",
                "Time that the recorder takes for one message; each point is one message and leads to its trace.",
                "s",
                metric(quantile("0.5", "messaging_process_duration_seconds"), "median"),
                metric(quantile("0.95", "messaging_process_duration_seconds"), "p95", exemplars=True),
                links=[explore("Traces of slow messages", slow)],
            ),
            lines(
                "Until the broker confirms",
                "Time from the hand-over of a message until the broker has stored it.",
                "s",
                metric(quantile("0.5", "messaging_client_operation_duration_seconds"), "median"),
                metric(quantile("0.95", "messaging_client_operation_duration_seconds"), "p95", exemplars=True),
            ),
        ),
    )


def broker() -> Row:
    """The broker as a program."""
    return Row(
        "RabbitMQ",
        (
            lines(
                "Memory",
                "Memory of the broker, and the limit at which it blocks those who publish.",
                "bytes",
                metric("rabbitmq_process_resident_memory_bytes", "resident", every=FETCHED),
                metric("rabbitmq_resident_memory_limit_bytes", "limit", every=FETCHED),
                width=8,
                overrides=[override("limit", custom__lineStyle={"fill": "dash"}, custom__fillOpacity=0)],
            ),
            lines(
                "Connections and channels",
                "Who is connected. The requester and the recorder hold one connection each.",
                "short",
                metric("rabbitmq_connections", "connections", every=FETCHED),
                metric("rabbitmq_channels", "channels", every=FETCHED),
                width=8,
            ),
            lines(
                "Traffic",
                "Bytes per second into the broker and out of it.",
                "Bps",
                metric(RATE.format(name="rabbitmq_connection_incoming_bytes_total"), "in", every=FETCHED),
                metric(RATE.format(name="rabbitmq_connection_outgoing_bytes_total"), "out", every=FETCHED),
                width=8,
            ),
            logs(
                "What the recorder says",
                "Lines of the recorder; the button of a line opens its trace.",
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
        "What waits in the queue, how long it takes to work it off, and what was given up.",
        (now(), flow(), durations(), broker()),
        (Choice("queue", "Queue", "mythical_queue_messages", "queue"),),
    )
