"""The dashboards match their source, are complete, and query only metrics that a program emits."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from urllib.parse import unquote

import pytest
import yaml

from common.telemetry.profiles import PROFILE_ID
from grafana.source.__main__ import FOLDER, generated
from grafana.source.queries import ALERTMANAGER, LOKI, MIMIR, POSTGRES, PYROSCOPE, TEMPO, Json
from grafana.source.reading import PanelQuery, boards, panel_queries, panels, query_variables, with_values
from tests.seams.dashboard_metrics import FROM_OTHERS, documented, names_in, queried_by_rules, recorded
from tests.seams.tree import ROOT
from tests.stack.test_dashboards import CHOICES, MAY_BE_EMPTY
from tools.generated import stale

SOURCES = {source.uid: source.kind for source in (MIMIR, ALERTMANAGER, LOKI, TEMPO, PYROSCOPE, POSTGRES)}
KEPT = {
    "ed4f4709-4d3b-48fd-a311-a036b85dbd5b": "MLT Dashboard",
    "9UKWKDqVy": "MLT Erroring Endpoints",
    "b550438e-5e9a-4bfa-8d1d-68a0104c09f2": "Traces in Dashboards",
}
# Zero width space and joiners, direction marks, soft hyphen, no-break space, byte order mark.
INVISIBLE = re.compile("[\u00a0\u00ad\u200b-\u200f\u2028-\u202f\u2060-\u2064\ufeff]")
EVERY_BOARD = pytest.mark.parametrize("name", boards())
MIMIR_QUERIES = [it for it in panel_queries() if it.source == "mimir"]


def every_panel() -> Iterator[tuple[str, Json]]:
    """Yield the panels of all dashboards, each with the name of its dashboard."""
    for name, board in boards().items():
        for panel in panels(board):
            yield f"{name}: {panel['title']}", panel


def links(panel: Json) -> Iterator[str]:
    """Yield the addresses that a panel links to."""
    for link in panel["fieldConfig"]["defaults"].get("links", []):
        yield link["url"]


def test_the_stack_can_run_every_query() -> None:
    """Each variable has a value in the test of the stack, and the panels that may be empty there exist."""
    for it in panel_queries():
        with_values(it.text, CHOICES | {"dashTraceID": ""})
    assert {(it.board, it.panel) for it in panel_queries()} >= MAY_BE_EMPTY.keys()


def test_the_files_match_their_source() -> None:
    """A manual edit of a dashboard is lost when the files are next generated."""
    assert stale(FOLDER, generated()) == []


def test_the_dashboards_of_the_original_keep_their_addresses() -> None:
    """Workshops and bookmarks link to them."""
    titles = {board["uid"]: board["title"] for board in boards().values()}
    assert {uid: titles.get(uid) for uid in KEPT} == KEPT


def test_no_two_dashboards_have_the_same_address_or_title() -> None:
    """Grafana keeps one of the two and does not report which."""
    for key in ("uid", "title"):
        counted = Counter(board[key] for board in boards().values())
        assert [value for value, times in counted.items() if times > 1] == []


@EVERY_BOARD
def test_no_text_has_invisible_characters(name: str) -> None:
    """A query with one of them finds nothing."""
    assert not INVISIBLE.search((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert not INVISIBLE.search(unquote(json.dumps(boards()[name])))


@pytest.mark.parametrize(("where", "panel"), list(every_panel()), ids=[where for where, _ in every_panel()])
def test_each_panel_has_a_description_and_a_unit(where: str, panel: Json) -> None:
    """A number without a unit and a line without a name cannot be understood. A text panel needs neither."""
    assert panel["description"].endswith("."), where
    if panel["type"] == "text":
        assert panel["options"]["content"], where
        return
    assert panel["fieldConfig"]["defaults"]["unit"], where
    assert panel["targets"], where
    for query in panel["targets"]:
        if "expr" in query and panel["type"] != "logs":
            assert query["legendFormat"], where
            assert "{{le}}" not in query["legendFormat"], where
    if panel["type"] == "timeseries":
        assert panel["options"]["legend"]["showLegend"] is True, where


@EVERY_BOARD
def test_panels_do_not_overlap(name: str) -> None:
    """Grafana moves overlapping panels, and not always in the same way."""
    occupied: set[tuple[int, int]] = set()
    for panel in boards()[name]["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert not cells & occupied, panel["title"]
        occupied |= cells


@EVERY_BOARD
def test_there_are_no_gaps_between_panels(name: str) -> None:
    """Above a row heading or the end of the dashboard, the panels reach down to it in all 24 columns."""
    depths: dict[int, int] = {}
    for panel in [*boards()[name]["panels"], {"type": "row", "gridPos": {}, "title": "the end"}]:
        place = panel["gridPos"]
        if panel["type"] == "row":
            assert len(set(depths.values())) <= 1, f"above {panel['title']}: {depths}"
            depths = {}
        else:
            depths |= dict.fromkeys(range(place["x"], place["x"] + place["w"]), place["y"] + place["h"])


def test_a_clicked_trace_opens_in_the_trace_panel() -> None:
    """The link has the panel's number, which changes if a panel is added above."""
    board = boards()["traces-in-dashboards"]
    (link,) = [link for panel in panels(board) for link in panel["fieldConfig"]["defaults"].get("links", [])]
    number = re.search(r"viewPanel=panel-(\d+)&", link["url"])
    assert number
    assert [panel["type"] for panel in panels(board) if panel["id"] == int(number[1])] == ["traces"]


@pytest.mark.parametrize("it", list(panel_queries()), ids=str)
def test_each_query_has_a_provisioned_data_source(it: PanelQuery) -> None:
    """An unknown uid results in "data source not found"."""
    assert it.query["datasource"] == {"uid": it.source, "type": SOURCES[it.source]}


@pytest.mark.parametrize("it", MIMIR_QUERIES, ids=str)
def test_each_queried_metric_is_emitted(it: PanelQuery) -> None:
    """A service emits it according to the reference, or another program was seen to emit it."""
    unknown = names_in(it.text) - documented() - FROM_OTHERS - recorded()
    assert not unknown, (
        f"{sorted(unknown)}: not in docs/reference/telemetry.md, nor in tests/seams/dashboard_metrics.py"
    )


def test_metrics_are_distinguished_from_functions_labels_and_strings() -> None:
    """Otherwise, the tests above and below would not check anything."""
    expression = 'topk(10, sum by (le) (rate(a_bucket{b="c d"}[$__rate_interval]))) / clamp_min(up, 0.1) or vector(0)'
    assert names_in(expression) == {"a_bucket", "up"}


@EVERY_BOARD
def test_annotations_query_metrics_that_are_emitted(name: str) -> None:
    """An annotation without data is not noticed."""
    marks = boards()[name]["annotations"]["list"]
    assert {mark["name"] for mark in marks} >= {"Alerts", "Injected faults"}
    for mark in marks:
        assert mark["datasource"]["uid"] in SOURCES
        if mark["datasource"]["uid"] == MIMIR.uid:
            assert names_in(mark["target"]["expr"]) <= documented() | FROM_OTHERS | recorded()


@pytest.mark.parametrize(("board", "series", "label"), list(query_variables()))
def test_variables_query_metrics_that_are_emitted(board: str, series: str, label: str) -> None:
    """A variable without options empties every panel that uses it."""
    assert names_in(series) <= documented() | FROM_OTHERS | recorded(), f"{board}: {label}"


def test_each_listed_metric_of_other_programs_is_queried() -> None:
    """The list has no unused entries."""
    assert set.union(queried_by_rules(), *(names_in(it.text) for it in MIMIR_QUERIES)) >= FROM_OTHERS


@pytest.mark.parametrize("it", MIMIR_QUERIES, ids=str)
def test_each_rate_has_a_window_with_several_samples(it: PanelQuery) -> None:
    """With a fixed window, a rate is empty if samples are rarer, and hides short changes if they are more frequent."""
    for window in re.findall(r"\[([^\]]+)\]", it.text):
        assert window in {"$__rate_interval", "$__range", "1m"}, it.text
    assert it.query["interval"] in {"5s", "15s"}


@EVERY_BOARD
def test_links_have_the_form_that_grafana_supports(name: str) -> None:
    """Explore's old address (left=) opens an empty page."""
    uids = {board["uid"] for board in boards().values()}
    for panel in panels(boards()[name]):
        for url in links(panel):
            if url.startswith("/explore?"):
                assert url.startswith("/explore?schemaVersion=1&orgId=1&panes="), url
                pane = json.loads(unquote(url.partition("panes=")[2]))["m"]
                assert pane["datasource"] in SOURCES
                assert pane["range"] == {"from": "${__from}", "to": "${__to}"}
            else:
                assert url.removeprefix("/d/").partition("?")[0] in uids, url


def provisioned() -> dict[str, Json]:
    """Return the data sources by their uids."""
    path = ROOT / "grafana/provisioning/datasources/datasources.yaml"
    return {source["uid"]: source for source in yaml.safe_load(path.read_text(encoding="utf-8"))["datasources"]}


def test_the_data_sources_are_those_of_the_dashboards() -> None:
    """Saved queries refer to these uids."""
    assert {uid: source["type"] for uid, source in provisioned().items()} == SOURCES


def test_data_sources_link_to_each_other() -> None:
    """Grafana does not show a link to an unknown uid."""
    mimir, loki, tempo = (provisioned()[uid]["jsonData"] for uid in ("mimir", "loki", "tempo"))
    destinations = [
        *mimir["exemplarTraceIdDestinations"],
        *(field for field in loki["derivedFields"] if not field["url"].startswith("/d/")),
        *(tempo[key] for key in ("tracesToLogsV2", "tracesToMetrics", "tracesToProfiles", "serviceMap")),
    ]
    assert {each["datasourceUid"] for each in destinations} <= SOURCES.keys()
    assert {each["targetUID"] for each in provisioned()["tempo"]["correlations"]} <= SOURCES.keys()


def correlation_to(target: str) -> Json:
    """Return the correlation from a span to a data source."""
    correlations: list[Json] = provisioned()["tempo"]["correlations"]
    return next(each["config"] for each in correlations if each["targetUID"] == target)


def test_a_span_cannot_inject_sql() -> None:
    """The query gets only the name of a table, which is one word, and the role can only read."""
    config = correlation_to("postgres")
    assert re.findall(r"\$\$\{(\w+)\}", config["target"]["rawSql"]) == ["table", "table"]
    for step in config["transformations"]:
        assert step["mapValue"] == "table"
        assert re.findall(r"\((?!\?)([^)]*)\)", step["expression"]) == [r"\w+"]
    assert provisioned()["postgres"]["user"] == "grafana"
    assert [each["targetUID"] for each in provisioned()["tempo"]["correlations"] if "rawSql" in str(each)] == [
        "postgres"
    ]


def test_only_profiled_spans_link_to_a_profile() -> None:
    """Grafana shows a link if all its variables have values, and one of them is the key of that attribute."""
    (step,) = correlation_to("pyroscope")["transformations"]
    (link,) = (each for each in provisioned()["tempo"]["correlations"] if each["targetUID"] == "pyroscope")
    assert f"$${{{step['mapValue']}}}" in link["label"]
    assert re.search(step["expression"], f'[{{"value":"1","key":"{PROFILE_ID}"}}]')
    assert not re.search(step["expression"], '[{"key":"beast","value":"unicorn"}]')


@pytest.mark.parametrize("attribute", ["beast", "endpoint", "db.collection.name"])
@pytest.mark.parametrize("pair", ['{{"value":"{value}","key":"{key}"}}', '{{"key":"{key}","value":"{value}"}}'])
def test_the_table_is_found_among_the_attributes_of_a_span(attribute: str, pair: str) -> None:
    """Grafana searches one text with all attributes, in which the key or the value comes first."""
    others = [("http.method", "GET"), (attribute, "unicorn"), ("db.name", "postgres")]
    text = "[" + ",".join(pair.format(key=key, value=value) for key, value in others) + "]"
    malicious = text.replace("unicorn", "unicorn; DROP TABLE unicorn")
    steps = [step["expression"] for step in correlation_to("postgres")["transformations"]]
    assert [found.group(1) for step in steps if (found := re.search(step, text))] == ["unicorn"]
    assert not [step for step in steps if re.search(step, malicious)]


@pytest.mark.parametrize(
    "line", ["traceID=0af7651916cd43dd8448eb211c80319c x=1", "y=2 traceId=0af7651916cd43dd8448eb211c80319c"]
)
def test_a_log_line_links_to_its_trace(line: str) -> None:
    """The services write `traceID`, and Alloy writes `traceId`."""
    fields = provisioned()["loki"]["jsonData"]["derivedFields"]
    found = [re.search(field["matcherRegex"], line) for field in fields if field["name"] == "Trace"]
    assert [match and match.group(1) for match in found] == ["0af7651916cd43dd8448eb211c80319c"]


def test_a_log_line_of_postgres_links_to_its_statement_and_to_the_lock_holder() -> None:
    """The link uses the label that Alloy sets, the attribute that the server sets, and the variable of the dashboard.

    Only a number gets into the queries.
    """
    fields = {field["name"]: field for field in provisioned()["loki"]["jsonData"]["derivedFields"]}
    statement, holder = fields["Statement"], fields["Holder of the lock"]
    uid, variable = re.fullmatch(r"/d/([\w-]+)\?var-(\w+)=\$\$\{__value\.raw\}", statement["url"]).groups()  # type: ignore[union-attr]
    (board,) = (board for board in boards().values() if board["uid"] == uid)
    assert variable in [each["name"] for each in board["templating"]["list"]]
    assert re.search(statement["matcherRegex"], "query_id")
    line = "process 7 still waiting for ShareLock on relation 1 of database 5 after 200.1 ms "
    held = re.search(holder["matcherRegex"], f"{line}Process holding the lock: 42. Wait queue: 7.")
    assert held
    assert held[1] == "42"
    source = (ROOT / "services/server/sql_telemetry.py").read_text(encoding="utf-8")
    assert f'"{re.findall(r"span[.]([a-z_.]+)", holder["url"])[0]}"' in source
    alloy = (ROOT / "alloy/logs.alloy").read_text(encoding="utf-8")
    assert all(f'"{name}" = ""' in alloy for name in ("query_id", "trace_id"))


def test_only_statements_with_comments_link_to_the_log_of_postgres() -> None:
    """Without comments, the log has no trace ID; the link appears only if the span has the attribute."""
    (link,) = (each for each in provisioned()["tempo"]["correlations"] if each["targetUID"] == "loki")
    (step,) = link["config"]["transformations"]
    assert f"$${{{step['mapValue']}}}" in link["label"]
    assert re.search(step["expression"], '[{"value":"1","key":"db.postgresql.backend_pid"}]')
    assert not re.search(step["expression"], '[{"key":"db.system","value":"postgresql"}]')


def test_metrics_that_a_trace_links_to_exist() -> None:
    """The queries of tracesToMetrics use names of metrics that are emitted."""
    for query in provisioned()["tempo"]["jsonData"]["tracesToMetrics"]["queries"]:
        text = query["query"].replace("$$__tags,", "").replace("$$__tags", "").replace("$$", "$")
        assert names_in(text) <= documented() | FROM_OTHERS, query["name"]
