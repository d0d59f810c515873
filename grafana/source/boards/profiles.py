"""Profiles: where the services spend CPU time, in total and by span name."""

from grafana.source.board import Board, QueryVariable, Row
from grafana.source.panels import flame_graph, lines, override, table
from grafana.source.queries import CORES, metric, profile, profile_metric, traces
from tools.suite import CPU_PROFILE

SERVICES = '{service_name=~"mythical-.*"}'
# The load generator reports its CPU time like the services, but is not profiled.
PROFILED = 'process_cpu_time_seconds_total{group="mythical",service!="mythical-loadtest"}'
CHOSEN = '{service_name="$service"}'


def board() -> Board:
    """Return the dashboard."""
    over_time = Row(
        "All services",
        (
            lines(
                "Sampled CPU time",
                "CPU time of threads that run Python, sampled by the profiler, by service.",
                CORES,
                profile_metric(CPU_PROFILE, SERVICES, by="service_name"),
                stacked=True,
                displayName="${__field.labels.service_name}",
            ),
            lines(
                "Used CPU time",
                "CPU time measured by the operating system, to compare. It includes code outside of Python.",
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
                "By span name",
                "Sampled CPU time while a span of this name was open. Without a name: outside of any request.",
                CORES,
                profile_metric(CPU_PROFILE, CHOSEN, by="span_name"),
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
                "Flame graph",
                "All samples of the time range. Width is CPU time; a function is above its caller.",
                profile(CPU_PROFILE, CHOSEN),
            ),
            table(
                "Traces with a profile",
                "Long requests. Open one, and choose Profiles for this span. One sample is taken per 10 ms of CPU "
                "time, so a short or waiting span has none; then choose CPU profile of all such spans.",
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
        "Where the services spend CPU time, in total and by span name.",
        (over_time, one),
        (QueryVariable("service", "Service", PROFILED, "service", many=False, first="mythical-server"),),
        refresh="30s",
    )
