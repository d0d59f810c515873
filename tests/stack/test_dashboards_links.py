"""What the data sources are provisioned to lead to is there, asked exactly as they would ask it."""

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
from tests.stack.dashboards_asking import reader

PROVISIONED: dict[str, dict[str, Any]] = {
    source["uid"]: source
    for source in yaml.safe_load(
        (ROOT / "grafana/provisioning/datasources/datasources.yaml").read_text(encoding="utf-8")
    )["datasources"]
}
TEMPO = PROVISIONED["tempo"]["jsonData"]
STATEMENT = '{ resource.service.name = "mythical-server" && span.db.collection.name != "" }'


def unescaped(text: str) -> str:
    """Return a text as Grafana has it after it has read the file."""
    return text.replace("$$", "$")


def target(uid: str) -> dict[str, Any]:
    """Return the query by which a span leads to a data source."""
    return next(way["config"]["target"] for way in PROVISIONED["tempo"]["correlations"] if way["targetUID"] == uid)


@pytest.mark.parametrize(("board", "series", "label"), list(query_variables()))
def test_readers_have_something_to_choose_from(board: str, series: str, label: str, stack: Backends) -> None:
    """The list above each dashboard has entries."""
    eventually(
        lambda: [found for found in stack.promql(f"count by ({label}) ({series})") if found["metric"].get(label)],
        f"value of {label} for {board}",
    )


@pytest.mark.parametrize("metric", ["mythical_request_times_bucket", "traces_spanmetrics_latency_bucket"])
def test_exemplars_have_the_label_that_leads_to_a_trace(metric: str, stack: Backends) -> None:
    """Under another name the points are drawn and lead nowhere."""
    exemplar = eventually(lambda: stack.exemplars(metric), f"exemplar of {metric}")[-1]
    for lead in PROVISIONED["mimir"]["jsonData"]["exemplarTraceIdDestinations"]:
        trace_id = exemplar["labels"][lead["name"]]
        assert eventually(lambda wanted=trace_id: stack.trace(wanted), "trace of the exemplar")  # type: ignore[misc]


@pytest.mark.parametrize("job", ["mythical-requester", "mythical-server", "mythical-recorder", "alloy"])
def test_lines_lead_to_traces(job: str, stack: Backends) -> None:
    """By what the line says."""
    field = next(field for field in PROVISIONED["loki"]["jsonData"]["derivedFields"] if "matcherType" not in field)
    lines = eventually(lambda: stack.logql(f'{{job="{job}"}} |~ "(?i)traceid="', seconds=900), f"line of {job}")
    trace_id = next(found[1] for _, line in lines if (found := re.search(field["matcherRegex"], line)))
    assert eventually(lambda: stack.trace(trace_id), "trace of the line")


def test_lines_that_do_not_name_their_trace_have_it_beside_them(stack: Backends) -> None:
    """Structured metadata comes with the labels."""
    field = next(field for field in PROVISIONED["loki"]["jsonData"]["derivedFields"] if "matcherType" in field)
    lines = eventually(
        lambda: stack.logql('{job="mythical-server"} | trace_id != ""', seconds=900), "line with a trace"
    )
    assert [name for name in lines[0][0] if re.search(field["matcherRegex"], name)] == ["trace_id"]


def test_a_span_leads_to_its_lines(stack: Backends) -> None:
    """By the service and the id of the trace in the line, as Grafana writes the query."""
    tag = TEMPO["tracesToLogsV2"]["tags"][0]
    trace = eventually(lambda: stack.traceql("{ kind = server }"), "trace")[-1]["traceID"].zfill(32)
    query = f'{{{tag["value"]}="mythical-server"}} |="{trace}"'
    assert eventually(lambda: stack.logql(query, seconds=1800), "line of the trace")


@pytest.mark.parametrize("query", TEMPO["tracesToMetrics"]["queries"], ids=lambda query: query["name"])
def test_a_span_leads_to_metrics(query: dict[str, str], stack: Backends) -> None:
    """Each query, filled in for a span of the requester, of which some fail."""
    label = TEMPO["tracesToMetrics"]["tags"][0]["value"]
    text = unescaped(query["query"]).replace("$__tags", f'{label}="mythical-requester"')
    text = text.replace("${__span.name}", "requester").replace("$__rate_interval", "5m")
    eventually(lambda: stack.promql(text), f"answer to {text}")


@pytest.mark.parametrize("name", ["POST /<beast>", "GET /<beast>"])
def test_a_span_leads_to_the_profile_of_all_of_its_name(name: str, stack: Backends) -> None:
    """One of 2 ms seldom has a sample, since one is taken each 10 ms; all of them together do."""
    query = target("pyroscope")
    selector = unescaped(query["labelSelector"]).replace("${serviceName}", "mythical-server")
    selector = selector.replace("${__span.name}", name)
    eventually(lambda: stack.profile(selector, query["profileTypeId"]), f"sample of {name}")


def test_a_span_leads_to_the_rows_of_its_table(stack: Backends) -> None:
    """By the name of the table, counted by a role that cannot change it."""
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
def test_a_deep_link_of_the_components_page_opens_data_in_grafana(link: ExploreLink, stack: Backends) -> None:
    """Grafana serves Explore, and runs the query of the link for an anonymous user, as the page of Explore does."""
    address = urlsplit(link.address)
    assert stack.status("GRAFANA_PORT", f"{address.path}?{address.query}") == 200
    eventually(lambda: in_grafana(stack, link), f"data in Grafana for {link.text}")


def in_grafana(stack: Backends, link: ExploreLink) -> list[Any]:
    """Return what Grafana finds with the query of a link: traces, or frames with values.

    A search for traces goes through the proxy for data sources, because Grafana doesn't run it as a query.
    """
    uid = link.query.source.uid
    if link.language == "TraceQL":
        path = f"/api/datasources/proxy/uid/{uid}/api/search"
        return list(stack.fetch("GRAFANA_PORT", path, q=link.query.fields["query"])["traces"])
    query = link.query.as_json("A") | {"intervalMs": 15_000, "maxDataPoints": 60}
    answer = stack.fetch("GRAFANA_PORT", "/api/ds/query", {"queries": [query], "from": "now-15m", "to": "now"})
    return [frame for frame in answer["results"]["A"]["frames"] if any(frame["data"]["values"])]
