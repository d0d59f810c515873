"""The provisioned links of the data sources return data, with the queries that Grafana would run."""

import re
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import yaml

from grafana.source.reading import query_variables
from tests.seams.explore_links import ExploreLink, explore_links
from tests.seams.tree import ROOT
from tests.stack.backends import Backends, eventually
from tests.stack.dashboard_queries import reader

PROVISIONED: dict[str, dict[str, Any]] = {
    source["uid"]: source
    for source in yaml.safe_load(
        (ROOT / "grafana/provisioning/datasources/datasources.yaml").read_text(encoding="utf-8")
    )["datasources"]
}
TEMPO = PROVISIONED["tempo"]["jsonData"]
STATEMENT = '{ resource.service.name = "mythical-server" && span.db.collection.name != "" }'


def unescaped(text: str) -> str:
    """Return a text of the file as Grafana interprets it."""
    return text.replace("$$", "$")


def target(uid: str) -> dict[str, Any]:
    """Return the query of a span's link to a data source."""
    return next(link["config"]["target"] for link in PROVISIONED["tempo"]["correlations"] if link["targetUID"] == uid)


@pytest.mark.parametrize(("board", "series", "label"), list(query_variables()))
def test_each_dashboard_variable_has_values(board: str, series: str, label: str, stack: Backends) -> None:
    """The list at the top of the dashboard is not empty."""
    eventually(
        lambda: [found for found in stack.promql(f"count by ({label}) ({series})") if found["metric"].get(label)],
        f"value of {label} for {board}",
    )


@pytest.mark.parametrize("metric", ["mythical_request_times_bucket", "traces_spanmetrics_latency_bucket"])
def test_exemplars_have_the_label_of_the_trace_link(metric: str, stack: Backends) -> None:
    """With another name, the points would have no link."""
    exemplar = eventually(lambda: stack.exemplars(metric), f"exemplar of {metric}")[-1]
    for destination in PROVISIONED["mimir"]["jsonData"]["exemplarTraceIdDestinations"]:
        trace_id = exemplar["labels"][destination["name"]]
        assert eventually(lambda trace_id=trace_id: stack.trace(trace_id), "trace of the exemplar")  # type: ignore[misc]


@pytest.mark.parametrize("job", ["mythical-requester", "mythical-server", "mythical-recorder", "alloy"])
def test_log_lines_link_to_traces(job: str, stack: Backends) -> None:
    """The derived field finds the trace id in the text of the line."""
    field = next(field for field in PROVISIONED["loki"]["jsonData"]["derivedFields"] if "matcherType" not in field)
    lines = eventually(lambda: stack.logql(f'{{job="{job}"}} |~ "(?i)traceid="', seconds=900), f"line of {job}")
    trace_id = next(found[1] for _, line in lines if (found := re.search(field["matcherRegex"], line)))
    assert eventually(lambda: stack.trace(trace_id), "trace of the line")


def test_log_lines_without_a_trace_id_in_the_text_have_it_as_metadata(stack: Backends) -> None:
    """Structured metadata is returned with the labels."""
    field = next(field for field in PROVISIONED["loki"]["jsonData"]["derivedFields"] if "matcherType" in field)
    lines = eventually(
        lambda: stack.logql('{job="mythical-server"} | trace_id != ""', seconds=900), "line with a trace"
    )
    assert [name for name in lines[0][0] if re.search(field["matcherRegex"], name)] == ["trace_id"]


def test_a_span_links_to_its_log_lines(stack: Backends) -> None:
    """Grafana's query selects the service and the trace id in the line. A health check on zero-code has no line."""
    tag = TEMPO["tracesToLogsV2"]["tags"][0]

    def found() -> bool:
        traces = stack.traceql('{ resource.service.name = "mythical-server" && kind = server }')
        ids = (trace["traceID"].zfill(32) for trace in traces)
        return any(stack.logql(f'{{{tag["value"]}="mythical-server"}} |="{each}"', seconds=1800) for each in ids)

    eventually(found, "line of a trace")


@pytest.mark.parametrize("query", TEMPO["tracesToMetrics"]["queries"], ids=lambda query: query["name"])
def test_a_span_links_to_metrics(query: dict[str, str], stack: Backends) -> None:
    """Each query returns data for a span of the requester, of which some fail."""
    label = TEMPO["tracesToMetrics"]["tags"][0]["value"]
    text = unescaped(query["query"]).replace("$__tags", f'{label}="mythical-requester"')
    text = text.replace("${__span.name}", "requester").replace("$__rate_interval", "5m")
    eventually(lambda: stack.promql(text), f"result of {text}")


@pytest.mark.parametrize("name", ["POST /<beast>", "GET /<beast>"])
def test_a_span_links_to_the_profile_of_all_spans_with_its_name(name: str, stack: Backends) -> None:
    """A span of 2 ms seldom has a sample, because the interval is 10 ms; all of them together have samples."""
    query = target("pyroscope")
    selector = unescaped(query["labelSelector"]).replace("${serviceName}", "mythical-server")
    selector = selector.replace("${__span.name}", name)
    eventually(lambda: stack.profile(selector, query["profileTypeId"]), f"sample of {name}")


def test_a_span_links_to_the_rows_of_its_table(stack: Backends) -> None:
    """The query uses the table's name and a role that can't change the table."""
    trace = eventually(lambda: stack.traceql(STATEMENT), "trace with a statement")[0]["traceID"]
    tables = [
        attribute["value"]["stringValue"]
        for span in stack.trace(trace)
        for attribute in span.get("attributes", [])
        if attribute["key"] == "db.collection.name"
    ]
    statement = unescaped(target("postgres")["rawSql"])
    with reader(stack) as connection:
        rows = connection.execute(statement.replace("${table}", tables[0]).encode()).fetchall()
        assert rows[0][0] == tables[0]
        with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction)):
            connection.execute(b'DELETE FROM "unicorn"')


@pytest.mark.parametrize("link", list(explore_links()), ids=str)
def test_each_link_of_the_components_page_has_data_in_grafana(link: ExploreLink, stack: Backends) -> None:
    """Grafana serves Explore, and runs the link's query for an anonymous user as the page of Explore does."""
    url = urlsplit(link.address)
    assert stack.status("GRAFANA_PORT", f"{url.path}?{url.query}") == 200
    eventually(lambda: in_grafana(stack, link), f"data in Grafana for {link.text}")


def in_grafana(stack: Backends, link: ExploreLink) -> list[Any]:
    """Return the result of a link's query in Grafana: traces, or frames with values.

    A search for traces goes through the proxy for data sources, because Grafana doesn't run it as a query.
    """
    uid = link.query.source.uid
    if link.language == "TraceQL":
        path = f"/api/datasources/proxy/uid/{uid}/api/search"
        return list(stack.fetch("GRAFANA_PORT", path, q=link.query.fields["query"])["traces"])
    query = link.query.as_json("A") | {"intervalMs": 15_000, "maxDataPoints": 60}
    response = stack.fetch("GRAFANA_PORT", "/api/ds/query", {"queries": [query], "from": "now-15m", "to": "now"})
    return [frame for frame in response["results"]["A"]["frames"] if any(frame["data"]["values"])]
