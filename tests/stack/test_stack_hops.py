"""The signals are connected: from hop to hop within a trace, and from each signal to the others."""

import json
import re
import secrets
from typing import Any

import pytest

from tests.browser.conftest import WatchedPage, browser, watched
from tests.stack.backends import Backends, eventually, port

__all__ = ["browser", "watched"]

# Parent and child in TraceQL, for each hop of a request and of a message.
HOPS = {
    "requester to server": (
        '{resource.service.name="mythical-requester" && name="requester"}',
        '{resource.service.name="mythical-server" && kind=server}',
    ),
    "server to Postgres": (
        '{resource.service.name="mythical-server" && kind=server}',
        '{resource.service.name="mythical-server" && kind=client && span.db.name != nil}',
    ),
    "frontend to server": (
        '{resource.service.name="mythical-frontend" && kind=client}',
        '{resource.service.name="mythical-server" && kind=server}',
    ),
    "requester to recorder": (
        '{resource.service.name="mythical-requester" && name="publish_to_queue" && kind=producer}',
        '{resource.service.name="mythical-recorder" && name="process_message" && kind=consumer}',
    ),
}
# The same as edges of the service map.
EDGES = (
    ("mythical-requester", "mythical-server"),
    ("mythical-requester", "mythical-recorder"),
    ("mythical-frontend", "mythical-server"),
    ("mythical-server", "mythical-database"),
)
# Span attributes that the original's queries use.
ATTRIBUTES = ("http.method", "http.target", "http.status_code", "beast", "db.name", "db.statement", "service.version")


@pytest.mark.parametrize("hop", HOPS)
def test_each_hop_has_a_child_span(stack: Backends, hop: str) -> None:
    """A hop without context would start a new trace."""
    parent, child = HOPS[hop]
    query = f"{parent} > {child}"
    eventually(lambda: stack.traceql(query), query)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_spans_have_the_attributes_that_queries_use(stack: Backends, attribute: str) -> None:
    """The attribute is on the span, not on the resource."""
    query = f"{{span.{attribute} != nil}}"
    eventually(lambda: stack.traceql(query, limit=1), query)


@pytest.mark.parametrize(("client", "server"), EDGES)
def test_the_service_map_has_the_edge(stack: Backends, client: str, server: str) -> None:
    """Each edge of requests and messages has a rate."""
    query = f'sum(rate(traces_service_graph_request_total{{client="{client}",server="{server}"}}[10m])) > 0'
    eventually(lambda: stack.promql(query), query)


def test_a_trace_contains_requester_server_and_recorder(stack: Backends) -> None:
    """The three services are in one trace, with a single root span."""
    query = " && ".join(f'{{resource.service.name="mythical-{name}"}}' for name in ("requester", "server", "recorder"))

    def complete() -> list[dict[str, Any]]:
        for found in stack.traceql(query, limit=5):
            spans = stack.trace(found["traceID"])
            if len({span["service"] for span in spans}) == 3:
                return spans
        return []

    spans = eventually(complete, "trace of all three services")
    ids = {span["spanId"] for span in spans}
    assert [span["name"] for span in spans if span.get("parentSpanId") not in ids] == ["requester"]


def test_a_click_is_one_trace_from_the_browser_to_the_recorder(stack: Backends, watched: WatchedPage) -> None:
    """Each part has a log line of the trace, the session has a web vital, and the service map starts at the browser."""
    page = watched.page
    page.goto(f"http://localhost:{port('FRONTEND_PORT')}/#unicorn")
    page.get_by_label("New name").fill(f"browser_{secrets.token_hex(4)}")
    with page.expect_request(lambda request: request.method == "POST" and "/api/" in request.url) as sent:
        page.get_by_role("button", name="Add", exact=True).click()
    trace_id = sent.value.headers["traceparent"].split("-")[1]
    session = json.loads(page.evaluate("sessionStorage.getItem('com.grafana.faro.session')"))["sessionId"]
    services = {"mythical-browser", "mythical-frontend", "mythical-server", "mythical-recorder"}

    def complete() -> list[dict[str, Any]]:
        spans = stack.trace(trace_id)
        return spans if services == {span["service"] for span in spans} else []

    spans = eventually(complete, f"trace {trace_id} of four services")
    ids = {span["spanId"] for span in spans}
    assert [span["service"] for span in spans if span.get("parentSpanId") not in ids] == ["mythical-browser"]
    assert "INSERT unicorn" in [span["name"] for span in spans]

    def services_with_lines() -> set[str]:
        return {labels["service_name"] for labels, _ in stack.logql(f'{{service_name=~".+"}} | trace_id="{trace_id}"')}

    eventually(lambda: services <= services_with_lines(), f"log line of each service with trace {trace_id}")
    vital = f'{{service_name="mythical-browser",kind="measurement"}} |= "web-vitals" |= "session_id={session}"'
    eventually(lambda: stack.logql(vital), vital)
    for query in (
        'traces_service_graph_request_total{client="mythical-browser",server="mythical-frontend"} > 0',
        'traces_spanmetrics_calls_total{service="mythical-browser"} > 0',
    ):
        eventually(lambda query=query: stack.promql(query), query)  # type: ignore[misc]


@pytest.mark.parametrize("metric", ["mythical_request_times_bucket", "traces_spanmetrics_latency_bucket"])
def test_an_exemplar_has_a_trace(stack: Backends, metric: str) -> None:
    """The rule holds for exemplars of the services and of span metrics."""
    found = eventually(lambda: stack.exemplars(metric), f"exemplars of {metric}")
    newest = max(found, key=lambda exemplar: float(exemplar["timestamp"]))
    trace_id = newest["labels"]["trace_id"]
    eventually(lambda: stack.trace(trace_id), f"trace {trace_id} of {metric}")


@pytest.mark.parametrize("job", ["mythical-requester", "mythical-server", "mythical-recorder", "alloy"])
def test_a_log_line_has_a_trace(stack: Backends, job: str) -> None:
    """The expression of the data source's derived field finds the trace id."""
    lines = eventually(lambda: stack.logql(f'{{job="{job}"}} |~ "traceI[dD]="'), f"line of {job} with a trace id")
    found = re.search(r"traceI[d|D]=(\w+)", lines[0][1])
    assert found
    eventually(lambda: stack.trace(found[1]), f"trace {found[1]} of a line of {job}")


def test_a_trace_has_log_lines(stack: Backends) -> None:
    """A query for the trace id finds the lines of a request."""
    traces = eventually(lambda: stack.traceql('{resource.service.name="mythical-server"}'), "trace")
    eventually(
        lambda: [trace for trace in traces if stack.logql(f'{{job="mythical-server"}} |= "{trace["traceID"]}"')],
        "trace with lines of the server",
    )


def test_a_span_has_a_profile(stack: Backends) -> None:
    """Samples have the name of their span as a label; whether one short span has a sample is random."""
    eventually(
        lambda: stack.profile('{service_name="mythical-server",span_name=~"(GET|POST) /<beast>"}'),
        "samples within spans of the server",
    )


def test_a_span_has_metrics(stack: Backends) -> None:
    """Service, name and kind of a span are labels of the span metrics."""
    traces = eventually(lambda: stack.traceql('{resource.service.name="mythical-server" && kind=server}'), "trace")
    spans = [span for span in stack.trace(traces[0]["traceID"]) if span["kind"] == "SPAN_KIND_SERVER"]
    query = (
        'traces_spanmetrics_calls_total{service="mythical-server",span_kind="SPAN_KIND_SERVER",'
        f'span_name="{spans[0]["name"]}"}}'
    )
    eventually(lambda: stack.promql(query), query)
