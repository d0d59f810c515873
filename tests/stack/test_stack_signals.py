"""Every service emits every signal, and each arrives in its backend with the names of the reference."""

import time
from dataclasses import dataclass

import pytest

from tests.stack.backends import Backends, eventually

SERVICES = ("mythical-requester", "mythical-server", "mythical-recorder", "mythical-frontend")
# Older data is from before the last wave of requests, so its service may have stopped.
FRESH_S = 180


@dataclass(frozen=True)
class Metric:
    """A metric of the services, and a label that it must have."""

    service: str
    name: str
    label: str = ""


METRICS = (
    Metric("mythical-server", "mythical_request_times_count", "beast"),
    Metric("mythical-frontend", "http_server_request_duration_seconds_count", "http_route"),
    Metric("mythical-requester", "mythical_danger_level_30s"),
    Metric("mythical-recorder", "mythical_messages_recorded_total"),
)
SPANS = (
    ("mythical-requester", "requester", "client"),
    ("mythical-requester", "publish_to_queue", "producer"),
    ("mythical-server", "GET /.*", "server"),
    ("mythical-server", "POST /.*", "server"),
    ("mythical-server", "SELECT .*", "client"),
    ("mythical-recorder", "process_message", "consumer"),
    ("mythical-frontend", "GET /api/.*", "server"),
)
# Targets other than the services: the label `service`, and a metric that only this target has.
INFRASTRUCTURE = (
    ("alloy", "alloy_build_info"),
    ("postgres", "pg_up"),
    ("rabbitmq", "rabbitmq_identity_info"),
    ("rabbitmq", "rabbitmq_detailed_queue_messages"),
    ("host", "node_load1"),
    ("host", "node_filesystem_avail_bytes"),
    ("tempo", "tempo_build_info"),
    ("loki", "loki_build_info"),
    ("mimir", "cortex_build_info"),
    ("pyroscope", "pyroscope_build_info"),
    ("grafana", "grafana_build_info"),
)


@pytest.mark.parametrize(("service", "name", "kind"), SPANS)
def test_spans_are_in_tempo(stack: Backends, service: str, name: str, kind: str) -> None:
    """Each span of a request and of a message exists, with the kind that service graphs need."""
    query = f'{{resource.service.name="{service}" && name=~"{name}" && kind={kind}}}'
    eventually(lambda: stack.traceql(query, seconds=FRESH_S), query)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_metrics_are_in_mimir(stack: Backends, metric: Metric) -> None:
    """They have the labels that dashboards use; at least one series must be fresh."""
    query = f'{metric.name}{{group="mythical",service="{metric.service}"}}'
    found = eventually(lambda: stack.promql(query), query)
    if metric.label:
        assert all(metric.label in series["metric"] for series in found)
    ages = stack.promql(f"time() - timestamp({query})")
    assert min(float(series["value"][1]) for series in ages) < FRESH_S


@pytest.mark.parametrize("service", SERVICES)
def test_log_lines_are_in_loki(stack: Backends, service: str) -> None:
    """They have the labels of the reference and a trace id in the text."""
    query = f'{{job="{service}"}} |= "traceID"'
    lines = eventually(lambda: stack.logql(query, seconds=FRESH_S), query)
    labels, line = lines[0]
    assert labels["service_name"] == service
    assert labels["namespace"]
    assert labels["level"]
    assert "traceID=" in line


@pytest.mark.parametrize("service", SERVICES)
def test_profiles_are_in_pyroscope(stack: Backends, service: str) -> None:
    """The CPU profile has the name of the service."""
    eventually(lambda: stack.profile(f'{{service_name="{service}"}}'), f"profile of {service}")


@pytest.mark.parametrize(("service", "metric"), INFRASTRUCTURE)
def test_infrastructure_metrics_are_in_mimir(stack: Backends, service: str, metric: str) -> None:
    """They have the group "infrastructure", so that dashboards can distinguish them from the services."""
    query = f'{metric}{{group="infrastructure",service="{service}"}}'
    eventually(lambda: stack.promql(query), query)


def test_every_target_of_alloy_is_up(stack: Backends) -> None:
    """`up == 0` means a missing container or a wrong name."""
    eventually(lambda: stack.promql("up"), "up")
    down = [series["metric"] for series in stack.promql("up == 0")]
    assert down == []


@pytest.mark.parametrize("name", ["calls_total", "latency_bucket"])
@pytest.mark.parametrize("service", SERVICES)
def test_span_metrics_are_in_mimir(stack: Backends, service: str, name: str) -> None:
    """They have the same names whether Tempo or Alloy generates them."""
    query = f'traces_spanmetrics_{name}{{service="{service}"}}'
    found = eventually(lambda: stack.promql(query), query)
    assert {"span_name", "span_kind", "status_code"} <= set(found[0]["metric"])


def test_no_span_metric_is_counted_twice(stack: Backends) -> None:
    """If Tempo and Alloy both generated them, each rate on a dashboard would double."""
    sources = eventually(lambda: stack.promql("count by (source) (traces_spanmetrics_calls_total)"), "span metrics")
    assert len(sources) == 1


def test_alloy_writes_a_line_for_each_trace(stack: Backends) -> None:
    """The lines are in a separate stream, with the trace id under the name that Grafana uses."""
    lines = eventually(lambda: stack.logql('{job="alloy"}', seconds=FRESH_S), '{job="alloy"}')
    assert all("traceId=" in line for _, line in lines)
    eventually(lambda: stack.logql('{job="alloy"} |= " status="'), "line of a trace that failed")


def test_alloys_own_lines_are_in_loki(stack: Backends) -> None:
    """Its errors can be read without a shell on the machine."""
    eventually(lambda: stack.logql('{service="alloy"}'), '{service="alloy"}')


def test_the_number_of_series_is_bounded(stack: Backends) -> None:
    """A label with values from outside would grow without limit; the limit in mimir.yaml is the last resort."""
    result = stack.promql('sum(cortex_ingester_memory_series{service="mimir"})')
    assert result, "Mimir is not measured"
    assert float(result[0]["value"][1]) < 20_000


def test_the_backends_clock_matches_this_machine(stack: Backends) -> None:
    """Otherwise every "last five minutes" would be empty, and all tests above would fail for this reason."""
    assert abs(float(stack.promql("vector(time())")[0]["value"][1]) - time.time()) < 5
