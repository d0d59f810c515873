"""The ways of the data hang together: from hop to hop within a trace, and from each signal to the others."""

import json
import re
import secrets
from typing import Any

import pytest

from tests.browser.conftest import Watched, browser, watched
from tests.stack.backends import Backends, eventually, port

__all__ = ["browser", "watched"]

# Parent and child, as TraceQL: each hop of a request and of a message.
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
# The same as lines of the service map.
EDGES = (
    ("mythical-requester", "mythical-server"),
    ("mythical-requester", "mythical-recorder"),
    ("mythical-frontend", "mythical-server"),
    ("mythical-server", "mythical-database"),
)
# What queries of the original look for on a span.
ATTRIBUTES = ("http.method", "http.target", "http.status_code", "beast", "db.name", "db.statement", "service.version")


@pytest.mark.parametrize("hop", HOPS)
def test_a_child_follows_its_parent(stack: Backends, hop: str) -> None:
    """A hop that carries no context makes a trace of its own, and the chain is broken there."""
    parent, child = HOPS[hop]
    query = f"{parent} > {child}"
    eventually(lambda: stack.traceql(query), query)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_spans_have_the_attributes_that_queries_look_for(stack: Backends, attribute: str) -> None:
    """On the span itself, not on the resource."""
    query = f"{{span.{attribute} != nil}}"
    eventually(lambda: stack.traceql(query, limit=1), query)


@pytest.mark.parametrize(("client", "server"), EDGES)
def test_the_service_map_has_the_line(stack: Backends, client: str, server: str) -> None:
    """Of both ways, with a rate."""
    query = f'sum(rate(traces_service_graph_request_total{{client="{client}",server="{server}"}}[10m])) > 0'
    eventually(lambda: stack.promql(query), query)


def test_a_trace_reaches_from_the_requester_to_the_database_and_the_recorder(stack: Backends) -> None:
    """All three services in one trace, and no span without its parent but one."""
    query = " && ".join(f'{{resource.service.name="mythical-{name}"}}' for name in ("requester", "server", "recorder"))

    def whole() -> list[dict[str, Any]]:
        for found in stack.traceql(query, limit=5):
            spans = stack.trace(found["traceID"])
            if len({span["service"] for span in spans}) == 3:
                return spans
        return []

    spans = eventually(whole, "trace of all three services")
    ids = {span["spanId"] for span in spans}
    assert [span["name"] for span in spans if span.get("parentSpanId") not in ids] == ["requester"]


def test_a_click_is_one_trace_from_the_browser_to_the_database_and_the_recorder(
    stack: Backends, watched: Watched
) -> None:
    """Each part has a log line of the trace, the session has a web vital, and the service map begins at the browser."""
    page = watched.page
    page.goto(f"http://localhost:{port('FRONTEND_PORT')}/#unicorn")
    page.get_by_label("New name").fill(f"browser_{secrets.token_hex(4)}")
    with page.expect_request(lambda request: request.method == "POST" and "/api/" in request.url) as sent:
        page.get_by_role("button", name="Add", exact=True).click()
    trace_id = sent.value.headers["traceparent"].split("-")[1]
    session = json.loads(page.evaluate("sessionStorage.getItem('com.grafana.faro.session')"))["sessionId"]
    services = {"mythical-browser", "mythical-frontend", "mythical-server", "mythical-recorder"}

    def whole() -> list[dict[str, Any]]:
        spans = stack.trace(trace_id)
        return spans if services == {span["service"] for span in spans} else []

    spans = eventually(whole, f"trace {trace_id} of four services")
    ids = {span["spanId"] for span in spans}
    assert [span["service"] for span in spans if span.get("parentSpanId") not in ids] == ["mythical-browser"]
    assert "INSERT unicorn" in [span["name"] for span in spans]

    def tellers() -> set[str]:
        return {labels["service_name"] for labels, _ in stack.logql(f'{{service_name=~".+"}} | trace_id="{trace_id}"')}

    eventually(lambda: services <= tellers(), f"log line of each service with trace {trace_id}")
    vital = f'{{service_name="mythical-browser",kind="measurement"}} |= "web-vitals" |= "session_id={session}"'
    eventually(lambda: stack.logql(vital), vital)
    for query in (
        'traces_service_graph_request_total{client="mythical-browser",server="mythical-frontend"} > 0',
        'traces_spanmetrics_calls_total{service="mythical-browser"} > 0',
    ):
        eventually(lambda query=query: stack.promql(query), query)  # type: ignore[misc]


@pytest.mark.parametrize("metric", ["mythical_request_times_bucket", "traces_spanmetrics_latency_bucket"])
def test_from_an_exemplar_to_its_trace(stack: Backends, metric: str) -> None:
    """The points on a latency graph lead somewhere: those of the services and those made of spans."""
    found = eventually(lambda: stack.exemplars(metric), f"exemplars of {metric}")
    newest = max(found, key=lambda exemplar: float(exemplar["timestamp"]))
    trace_id = newest["labels"]["trace_id"]
    eventually(lambda: stack.trace(trace_id), f"trace {trace_id} of {metric}")


@pytest.mark.parametrize("job", ["mythical-requester", "mythical-server", "mythical-recorder", "alloy"])
def test_from_a_log_line_to_its_trace(stack: Backends, job: str) -> None:
    """By the expression that the derived field of the data source has."""
    lines = eventually(lambda: stack.logql(f'{{job="{job}"}} |~ "traceI[dD]="'), f"line of {job} with a trace id")
    found = re.search(r"traceI[d|D]=(\w+)", lines[0][1])
    assert found
    eventually(lambda: stack.trace(found[1]), f"trace {found[1]} of a line of {job}")


def test_from_a_trace_to_its_log_lines(stack: Backends) -> None:
    """The lines of a request are found by its trace id."""
    traces = eventually(lambda: stack.traceql('{resource.service.name="mythical-server"}'), "trace")
    eventually(
        lambda: [trace for trace in traces if stack.logql(f'{{job="mythical-server"}} |= "{trace["traceID"]}"')],
        "trace with lines of the server",
    )


def test_from_a_span_to_its_profile(stack: Backends) -> None:
    """Samples carry the name of the span they were taken in; which of the short ones has a sample is chance."""
    eventually(
        lambda: stack.profile('{service_name="mythical-server",span_name=~"(GET|POST) /<beast>"}'),
        "samples within spans of the server",
    )


def test_from_a_span_to_its_metrics(stack: Backends) -> None:
    """Service, name and kind of a span are labels of the metrics that are made of it."""
    traces = eventually(lambda: stack.traceql('{resource.service.name="mythical-server" && kind=server}'), "trace")
    spans = [span for span in stack.trace(traces[0]["traceID"]) if span["kind"] == "SPAN_KIND_SERVER"]
    query = (
        'traces_spanmetrics_calls_total{service="mythical-server",span_kind="SPAN_KIND_SERVER",'
        f'span_name="{spans[0]["name"]}"}}'
    )
    eventually(lambda: stack.promql(query), query)
