"""Every service tells every signal, and each arrives in its back end under the names of the reference."""

import time
from dataclasses import dataclass

import pytest

from tests.stack.backends import Backends, eventually

SERVICES = ("mythical-requester", "mythical-server", "mythical-recorder", "mythical-frontend")
# What is older than this was told before the last wave of requests, so its teller may be dead.
FRESH_S = 180


@dataclass(frozen=True)
class Metric:
    """A metric of the services, and a label that it has to have."""

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
# What is measured beside the services, by its label `service`, and a metric that only it has.
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
    """Each span of the two ways of the data, of the kind that service graphs are drawn from."""
    query = f'{{resource.service.name="{service}" && name=~"{name}" && kind={kind}}}'
    eventually(lambda: stack.traceql(query, seconds=FRESH_S), query)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_metrics_are_in_mimir(stack: Backends, metric: Metric) -> None:
    """With the labels by which dashboards tell them apart; one series that is minutes old is not enough."""
    query = f'{metric.name}{{group="mythical",service="{metric.service}"}}'
    found = eventually(lambda: stack.promql(query), query)
    if metric.label:
        assert all(metric.label in series["metric"] for series in found)
    ages = stack.promql(f"time() - timestamp({query})")
    assert min(float(series["value"][1]) for series in ages) < FRESH_S


@pytest.mark.parametrize("service", SERVICES)
def test_log_lines_are_in_loki(stack: Backends, service: str) -> None:
    """With the labels of the reference and a trace id in the line."""
    query = f'{{job="{service}"}} |= "traceID"'
    lines = eventually(lambda: stack.logql(query, seconds=FRESH_S), query)
    labels, line = lines[0]
    assert labels["service_name"] == service
    assert labels["namespace"]
    assert labels["level"]
    assert "traceID=" in line


@pytest.mark.parametrize("service", SERVICES)
def test_profiles_are_in_pyroscope(stack: Backends, service: str) -> None:
    """CPU time, under the name of the service."""
    eventually(lambda: stack.profile(f'{{service_name="{service}"}}'), f"profile of {service}")


@pytest.mark.parametrize(("service", "metric"), INFRASTRUCTURE)
def test_what_is_beside_the_services_is_measured(stack: Backends, service: str, metric: str) -> None:
    """As group "infrastructure", so that dashboards keep the two apart."""
    query = f'{metric}{{group="infrastructure",service="{service}"}}'
    eventually(lambda: stack.promql(query), query)


def test_every_target_of_alloy_answers(stack: Backends) -> None:
    """`up == 0` is a container that is not there, or a name with a slip."""
    eventually(lambda: stack.promql("up"), "up")
    down = [series["metric"] for series in stack.promql("up == 0")]
    assert down == []


@pytest.mark.parametrize("name", ["calls_total", "latency_bucket"])
@pytest.mark.parametrize("service", SERVICES)
def test_metrics_are_made_of_spans(stack: Backends, service: str, name: str) -> None:
    """Under the same names, whether Tempo makes them or Alloy."""
    query = f'traces_spanmetrics_{name}{{service="{service}"}}'
    found = eventually(lambda: stack.promql(query), query)
    assert {"span_name", "span_kind", "status_code"} <= set(found[0]["metric"])


def test_no_span_metric_is_counted_twice(stack: Backends) -> None:
    """Were Tempo and Alloy both to make them, each rate on a dashboard would be double."""
    sources = eventually(lambda: stack.promql("count by (source) (traces_spanmetrics_calls_total)"), "span metrics")
    assert len(sources) == 1


def test_alloy_writes_a_line_for_each_trace(stack: Backends) -> None:
    """In a stream of its own, with the trace id under the name that Grafana looks for."""
    lines = eventually(lambda: stack.logql('{job="alloy"}', seconds=FRESH_S), '{job="alloy"}')
    assert all("traceId=" in line for _, line in lines)
    eventually(lambda: stack.logql('{job="alloy"} |= " status="'), "line of a trace that failed")


def test_alloys_own_lines_are_in_loki(stack: Backends) -> None:
    """What it complains of can be read without a shell on the machine."""
    eventually(lambda: stack.logql('{service="alloy"}'), '{service="alloy"}')


def test_the_number_of_series_stays_what_the_machine_was_measured_for(stack: Backends) -> None:
    """A label with a value from outside would grow without end; the limit in mimir.yaml is the last resort."""
    answer = stack.promql('sum(cortex_ingester_memory_series{service="mimir"})')
    assert answer, "Mimir is not measured"
    assert float(answer[0]["value"][1]) < 20_000


def test_the_clock_of_the_back_ends_is_ours(stack: Backends) -> None:
    """Otherwise every "last five minutes" is empty, and all of the above would fail for one reason."""
    assert abs(float(stack.promql("vector(time())")[0]["value"][1]) - time.time()) < 5
