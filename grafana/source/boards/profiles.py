"""Profiles: where the services spend their time, as a whole and by the kind of span."""

from grafana.source.board import Board, Row
from grafana.source.panels import flame_graph, lines, override, table
from grafana.source.queries import CORES, metric, profile, profile_metric, traces
from grafana.source.variables import Choice

CPU = "process_cpu:cpu:nanoseconds:cpu:nanoseconds"
SERVICES = '{service_name=~"mythical-.*"}'
# The load generator counts its CPU time as they do, but is not profiled.
PROFILED = 'process_cpu_time_seconds_total{group="mythical",service!="mythical-loadtest"}'
CHOSEN = '{service_name="$service"}'


def board() -> Board:
    """Return the dashboard."""
    over_time = Row(
        "All services",
        (
            lines(
                "CPU time that was sampled",
                "What the sampler saw at work, by service: threads that run Python.",
                CORES,
                profile_metric(CPU, SERVICES, by="service_name"),
                stacked=True,
                displayName="${__field.labels.service_name}",
            ),
            lines(
                "CPU time that was used",
                "What the operating system counted, to compare: with what runs outside of Python.",
                CORES,
                metric(
                    'sum by (service) (rate(process_cpu_time_seconds_total{group="mythical"}[$__rate_interval]))',
                    "{{service}}",
                ),
                stacked=True,
            ),
        ),
    )
    one = Row(
        "$service",
        (
            lines(
                "By the kind of span",
                "CPU time that was sampled while a span of this name was open; without a name, outside of any request.",
                CORES,
                profile_metric(CPU, CHOSEN, by="span_name"),
                stacked=True,
                displayName="${__field.labels.span_name}",
                overrides=[override("cpu", displayName="no span")],
            ),
            lines(
                "Memory",
                "Physical memory in use.",
                "bytes",
                metric('sum by (service) (process_memory_usage_bytes{service="$service"})', "{{service}}"),
            ),
            flame_graph(
                "Where the time goes",
                "All samples of the time that is shown. Width is CPU time; a function is above the one that called it.",
                profile(CPU, CHOSEN),
            ),
            table(
                "Traces with a profile",
                "Long requests: open one, and choose Profiles for this span. One sample is taken in 10 ms of CPU time: "
                "one that was short or waited has none, then choose CPU profile of all such spans.",
                "ms",
                traces('{ resource.service.name = "$service" && span.pyroscope.profile.id != nil && duration > 20ms }'),
                width=24,
            ),
        ),
    )
    return Board(
        "profiles",
        "mythical-profiles",
        "Profiles",
        "Where the services spend their time, as a whole and by the kind of span.",
        (over_time, one),
        (Choice("service", "Service", PROFILED, "service", many=False, first="mythical-server"),),
        refresh="30s",
    )
