"""The dashboards are as their source says, complete, and ask only for what somebody tells."""

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
from grafana.source.reading import PanelQuery, boards, panel_queries, panels, query_variables
from tests.seams.dashboard_metrics import FROM_OTHERS, documented, names_in, recorded, rules_ask
from tests.seams.tree import ROOT
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
ASKED_OF_MIMIR = [it for it in panel_queries() if it.source == "mimir"]


def every_panel() -> Iterator[tuple[str, Json]]:
    """The panels of all dashboards, each with the name of its dashboard."""
    for name, board in boards().items():
        for panel in panels(board):
            yield f"{name}: {panel['title']}", panel


def links(panel: Json) -> Iterator[str]:
    """The addresses that a panel leads to."""
    for link in panel["fieldConfig"]["defaults"].get("links", []):
        yield link["url"]


def test_the_files_are_what_the_source_makes() -> None:
    """A dashboard that was edited by hand loses the change when it is next written."""
    assert stale(FOLDER, generated()) == []


def test_the_dashboards_of_the_original_keep_their_addresses() -> None:
    """Links to them are in workshops and bookmarks."""
    there = {board["uid"]: board["title"] for board in boards().values()}
    assert {uid: there.get(uid) for uid in KEPT} == KEPT


def test_no_two_dashboards_have_the_same_address_or_title() -> None:
    """Grafana keeps one of two and does not say which."""
    for key in ("uid", "title"):
        counted = Counter(board[key] for board in boards().values())
        assert [value for value, times in counted.items() if times > 1] == []


@EVERY_BOARD
def test_no_text_holds_characters_that_cannot_be_seen(name: str) -> None:
    """One of them in a query, and it finds nothing."""
    assert not INVISIBLE.search((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    assert not INVISIBLE.search(unquote(json.dumps(boards()[name])))


@pytest.mark.parametrize(("where", "panel"), list(every_panel()), ids=[where for where, _ in every_panel()])
def test_each_panel_says_what_it_shows_and_in_which_unit(where: str, panel: Json) -> None:
    """A figure without a unit is a riddle, and a line without a name another. A text is neither."""
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
    """Grafana would push them apart, each time another way."""
    taken: set[tuple[int, int]] = set()
    for panel in boards()[name]["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells


@EVERY_BOARD
def test_there_are_no_holes_between_panels(name: str) -> None:
    """Where a heading follows, or the end, the panels above reach down to it in all 24 columns."""
    depths: dict[int, int] = {}
    for panel in [*boards()[name]["panels"], {"type": "row", "gridPos": {}, "title": "the end"}]:
        place = panel["gridPos"]
        if panel["type"] == "row":
            assert len(set(depths.values())) <= 1, f"above {panel['title']}: {depths}"
            depths = {}
        else:
            depths |= dict.fromkeys(range(place["x"], place["x"] + place["w"]), place["y"] + place["h"])


def test_a_trace_that_is_clicked_opens_in_the_panel_for_it() -> None:
    """The link names the panel by its number, which another panel above it would change."""
    board = boards()["traces-in-dashboards"]
    (link,) = [link for panel in panels(board) for link in panel["fieldConfig"]["defaults"].get("links", [])]
    number = re.search(r"viewPanel=panel-(\d+)&", link["url"])
    assert number
    assert [panel["type"] for panel in panels(board) if panel["id"] == int(number[1])] == ["traces"]


@pytest.mark.parametrize("it", list(panel_queries()), ids=str)
def test_each_query_names_a_source_that_is_provisioned(it: PanelQuery) -> None:
    """A uid that nobody has ends in "data source not found"."""
    assert it.query["datasource"] == {"uid": it.source, "type": SOURCES[it.source]}


@pytest.mark.parametrize("it", ASKED_OF_MIMIR, ids=str)
def test_each_metric_that_is_asked_for_is_told_by_someone(it: PanelQuery) -> None:
    """By a service, as the reference says, or by a program that was seen to tell it."""
    unknown = names_in(it.text) - documented() - FROM_OTHERS - recorded()
    assert not unknown, (
        f"{sorted(unknown)}: not in docs/reference/telemetry.md, nor in tests/seams/dashboard_metrics.py"
    )


def test_metrics_are_told_from_functions_labels_and_texts() -> None:
    """Or the two tests around this one would prove nothing."""
    expression = 'topk(10, sum by (le) (rate(a_bucket{b="c d"}[$__rate_interval]))) / clamp_min(up, 0.1) or vector(0)'
    assert names_in(expression) == {"a_bucket", "up"}


@EVERY_BOARD
def test_what_is_marked_on_graphs_is_told_by_someone(name: str) -> None:
    """A mark that asks for nothing marks nothing, and nobody notices."""
    marks = boards()[name]["annotations"]["list"]
    assert {mark["name"] for mark in marks} >= {"Alerts", "Injected faults"}
    for mark in marks:
        assert mark["datasource"]["uid"] in SOURCES
        if mark["datasource"]["uid"] == MIMIR.uid:
            assert names_in(mark["target"]["expr"]) <= documented() | FROM_OTHERS | recorded()


@pytest.mark.parametrize(("board", "series", "label"), list(query_variables()))
def test_what_readers_choose_from_is_told_by_someone(board: str, series: str, label: str) -> None:
    """A list without an entry empties every panel that uses it."""
    assert names_in(series) <= documented() | FROM_OTHERS | recorded(), f"{board}: {label}"


def test_the_metrics_of_others_that_are_listed_are_asked_for() -> None:
    """The list is not longer than it has to be."""
    assert set.union(rules_ask(), *(names_in(it.text) for it in ASKED_OF_MIMIR)) >= FROM_OTHERS


@pytest.mark.parametrize("it", ASKED_OF_MIMIR, ids=str)
def test_each_rate_is_over_a_window_that_holds_several_values(it: PanelQuery) -> None:
    """Over a fixed window a rate is empty where values come more rarely, and hides waves where they come often."""
    for window in re.findall(r"\[([^\]]+)\]", it.text):
        assert window in {"$__rate_interval", "$__range", "1m"}, it.text
    assert it.query["interval"] in {"5s", "15s"}


@EVERY_BOARD
def test_links_are_in_the_form_that_grafana_reads_today(name: str) -> None:
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
    """The data sources by their uids."""
    path = ROOT / "grafana/provisioning/datasources/datasources.yaml"
    return {source["uid"]: source for source in yaml.safe_load(path.read_text(encoding="utf-8"))["datasources"]}


def test_the_data_sources_are_those_of_the_dashboards() -> None:
    """The uids are the interface: saved queries name them."""
    assert {uid: source["type"] for uid, source in provisioned().items()} == SOURCES


def test_data_sources_lead_to_each_other() -> None:
    """A link to a uid that nobody has is not shown at all."""
    mimir, loki, tempo = (provisioned()[uid]["jsonData"] for uid in ("mimir", "loki", "tempo"))
    leads = [
        *mimir["exemplarTraceIdDestinations"],
        *(field for field in loki["derivedFields"] if not field["url"].startswith("/d/")),
        *(tempo[way] for way in ("tracesToLogsV2", "tracesToMetrics", "tracesToProfiles", "serviceMap")),
    ]
    assert {lead["datasourceUid"] for lead in leads} <= SOURCES.keys()
    assert {lead["targetUID"] for lead in provisioned()["tempo"]["correlations"]} <= SOURCES.keys()


def way_to(target: str) -> Json:
    """Return the correlation that leads from a span to a data source."""
    ways: list[Json] = provisioned()["tempo"]["correlations"]
    return next(way["config"] for way in ways if way["targetUID"] == target)


def test_no_sql_comes_from_a_span() -> None:
    """Only the name of a table is taken from a span, and only if it is one word; the role can do no more than read."""
    way = way_to("postgres")
    assert re.findall(r"\$\$\{(\w+)\}", way["target"]["rawSql"]) == ["table", "table"]
    for step in way["transformations"]:
        assert step["mapValue"] == "table"
        assert re.findall(r"\((?!\?)([^)]*)\)", step["expression"]) == [r"\w+"]
    assert provisioned()["postgres"]["user"] == "grafana"
    assert [way["targetUID"] for way in provisioned()["tempo"]["correlations"] if "rawSql" in str(way)] == ["postgres"]


def test_only_spans_that_are_profiled_lead_to_the_profile_of_their_kind() -> None:
    """Grafana shows a link once it has all its words, and one of them comes from the key of that attribute."""
    (step,) = way_to("pyroscope")["transformations"]
    (link,) = (way for way in provisioned()["tempo"]["correlations"] if way["targetUID"] == "pyroscope")
    assert f"$${{{step['mapValue']}}}" in link["label"]
    assert re.search(step["expression"], f'[{{"value":"1","key":"{PROFILE_ID}"}}]')
    assert not re.search(step["expression"], '[{"key":"beast","value":"unicorn"}]')


@pytest.mark.parametrize("attribute", ["beast", "endpoint", "db.collection.name"])
@pytest.mark.parametrize("pair", ['{{"value":"{value}","key":"{key}"}}', '{{"key":"{key}","value":"{value}"}}'])
def test_the_table_is_found_among_the_attributes_of_a_span(attribute: str, pair: str) -> None:
    """Grafana searches one text with all attributes, in which either of key and value may come first."""
    others = [("http.method", "GET"), (attribute, "unicorn"), ("db.name", "postgres")]
    text = "[" + ",".join(pair.format(key=key, value=value) for key, value in others) + "]"
    evil = text.replace("unicorn", "unicorn; DROP TABLE unicorn")
    steps = [step["expression"] for step in way_to("postgres")["transformations"]]
    assert [found.group(1) for step in steps if (found := re.search(step, text))] == ["unicorn"]
    assert not [step for step in steps if re.search(step, evil)]


@pytest.mark.parametrize(
    "line", ["traceID=0af7651916cd43dd8448eb211c80319c x=1", "y=2 traceId=0af7651916cd43dd8448eb211c80319c"]
)
def test_a_line_leads_to_its_trace(line: str) -> None:
    """The services write one form, Alloy the other."""
    fields = provisioned()["loki"]["jsonData"]["derivedFields"]
    found = [re.search(field["matcherRegex"], line) for field in fields if field["name"] == "Trace"]
    assert [match and match.group(1) for match in found] == ["0af7651916cd43dd8448eb211c80319c"]


def test_a_line_of_postgres_leads_to_its_statement_and_to_the_holder_of_the_lock() -> None:
    """By the names that Alloy gives to what it reads, and that the server gives to its spans and the dashboard to its
    variable; only a number reaches the queries."""
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


def test_only_statements_with_comments_lead_to_the_log_of_postgres() -> None:
    """Without them, the log has no trace; the label is complete only if the span has the attribute."""
    (link,) = (way for way in provisioned()["tempo"]["correlations"] if way["targetUID"] == "loki")
    (step,) = link["config"]["transformations"]
    assert f"$${{{step['mapValue']}}}" in link["label"]
    assert re.search(step["expression"], '[{"value":"1","key":"db.postgresql.backend_pid"}]')
    assert not re.search(step["expression"], '[{"key":"db.system","value":"postgresql"}]')


def test_metrics_behind_the_ways_out_of_a_trace_exist() -> None:
    """A span leads to rates; these too are asked for under names that someone tells."""
    for query in provisioned()["tempo"]["jsonData"]["tracesToMetrics"]["queries"]:
        text = query["query"].replace("$$__tags,", "").replace("$$__tags", "").replace("$$", "$")
        assert names_in(text) <= documented() | FROM_OTHERS, query["name"]
