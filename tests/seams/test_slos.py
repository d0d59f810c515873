"""The rules are as their source says, ask only for what somebody tells, and each alert has its runbook."""

import re
from itertools import pairwise

import pytest
import yaml

from common.faults import ALL_FAULTS
from grafana.source.reading import boards
from mimir.source.__main__ import FOLDER, TENANT, generated
from mimir.source.objectives import OBJECTIVES, Objective
from mimir.source.rules import Rule, alerts, groups
from mimir.source.scales import PRODUCTION, SCALES, WORKSHOP, Scale, seconds
from tests.seams.compose_files import services
from tests.seams.dashboard_metrics import FROM_OTHERS, documented, rules_ask
from tests.seams.tree import ROOT, rows, sections, words
from tools.generated import stale
from tools.suite import SERVICES
from workshop import scenario

RUNBOOKS = ROOT / "docs/runbooks"
PARTS = ["Look here first", "Likely causes", "Fix", "Verify recovery"]
EVERY_SCALE = pytest.mark.parametrize("scale", SCALES, ids=lambda scale: scale.name)
EVERY_ALERT = pytest.mark.parametrize("alert", alerts())
CONFIGURATION = (ROOT / "mimir/mimir.yaml").read_text(encoding="utf-8")


def fired_by() -> dict[str, list[str]]:
    """The scenarios that fire each alert."""
    every = {name: scenario.read(name).alerts for name in scenario.names()}
    return {alert: [name for name, fired in every.items() if alert in fired] for alert in alerts()}


def rules(scale: Scale) -> list[Rule]:
    """All rules of a scale."""
    return [rule for group in groups(scale) for rule in group.rules]


def test_no_folder_of_mimir_is_the_beginning_of_another() -> None:
    """Patch releases such as 3.0.2 compare the paths as text: `alertmanager` next to `alertmanager-x` is an error."""
    folders = re.findall(r"(?:dir|path|directory): (\$\{MIMIR_DATA:\S+)", CONFIGURATION)
    assert len(folders) >= 7
    assert [(one, other) for one in folders for other in folders if one != other and other.startswith(one)] == []


def test_the_files_are_what_the_source_makes() -> None:
    """A rule that was edited by hand loses the change when it is next written."""
    assert stale(FOLDER, generated()) == []


@EVERY_SCALE
def test_a_file_of_rules_reads_as_what_was_meant(scale: Scale) -> None:
    """The YAML is written by hand, so it is read back: no quote or colon of an expression changes it."""
    read = yaml.safe_load((FOLDER / scale.name / TENANT / "slo.yaml").read_text(encoding="utf-8"))
    found = [rule for group in read["groups"] for rule in group["rules"]]
    assert [one["expr"] for one in found] == [rule.expression for rule in rules(scale)]
    assert [one.get("labels", {}) for one in found] == [rule.labels for rule in rules(scale)]
    assert [one.get("annotations", {}) for one in found] == [rule.annotations for rule in rules(scale)]


def test_each_metric_that_a_rule_asks_for_is_told_by_someone() -> None:
    """By a service, as the reference says, or by a program that was seen to tell it."""
    assert rules_ask() - documented() - FROM_OTHERS == set()


@EVERY_SCALE
def test_each_alert_says_what_is_the_matter_and_where_to_read_on(scale: Scale) -> None:
    """And how urgent it is: page or ticket."""
    for rule in rules(scale):
        if rule.alert:
            assert rule.labels["severity"] in {"page", "ticket"}
            assert rule.annotations["summary"].endswith(".")
            assert rule.annotations["runbook_url"]


@EVERY_ALERT
def test_each_alert_has_a_runbook(alert: str) -> None:
    """All of the same parts, so that whoever was called knows where to look."""
    text = (RUNBOOKS / f"{alert}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {alert}\n\n**It means**: ")
    assert [heading for heading, _ in sections(text)][1:] == PARTS
    assert rows(dict(sections(text))["Likely causes"])


@EVERY_ALERT
def test_a_runbook_says_by_which_scenarios_its_alert_is_tried(alert: str) -> None:
    """Who has never seen an alert fire reads its runbook for the first time at night."""
    text = (RUNBOOKS / f"{alert}.md").read_text(encoding="utf-8")
    assert re.findall(r"^To try it: .*scenario run ([\w-]+)`", text, re.MULTILINE) == fired_by()[alert]


def test_no_runbook_is_without_its_alert() -> None:
    """One that was renamed takes its runbook along."""
    assert {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"} == set(alerts())


@EVERY_ALERT
def test_the_link_of_an_alert_leads_to_its_runbook(alert: str) -> None:
    """To a panel of a dashboard, by its number; one panel more in front, and every link would lead to the wrong one."""
    board = boards()["runbooks"]
    (rule, *_) = [rule for rule in rules(WORKSHOP) if rule.alert == alert]
    uid, panel = re.fullmatch(
        r"\{\{ \$externalURL \}\}/d/([\w-]+)/runbooks\?viewPanel=panel-(\d+)", rule.annotations["runbook_url"]
    ).groups()  # type: ignore[union-attr]
    assert uid == board["uid"]
    assert [one["title"] for one in board["panels"] if one["id"] == int(panel)] == [alert]


@EVERY_ALERT
def test_the_dashboards_that_a_runbook_names_exist(alert: str) -> None:
    """A dead link is found when it is needed least."""
    named = set(re.findall(r"127\.0\.0\.1:3000/d/([\w-]+)", (RUNBOOKS / f"{alert}.md").read_text(encoding="utf-8")))
    assert named
    assert named <= {board["uid"] for board in boards().values()}


@EVERY_ALERT
def test_the_metrics_that_a_runbook_asks_for_exist(alert: str) -> None:
    """Names with an underscore and a selector, as in its queries."""
    text = (RUNBOOKS / f"{alert}.md").read_text(encoding="utf-8")
    asked = set(re.findall(r"\b([a-z]+(?:_[a-z]+)+)(?=[{\[])", text))
    assert asked <= documented() | FROM_OTHERS


@EVERY_ALERT
def test_the_settings_that_a_runbook_names_exist(alert: str) -> None:
    """A variable with a slip mends nothing."""
    text = (RUNBOOKS / f"{alert}.md").read_text(encoding="utf-8")
    known = "".join(
        (ROOT / page).read_text(encoding="utf-8") for page in ("docs/reference/settings.md", "loadtest/README.md")
    )
    for variable in re.findall(r"\b([A-Z]+(?:_[A-Z]+)+)\b", text):
        assert f"`{variable}`" in known, variable


@EVERY_ALERT
def test_the_faults_that_a_runbook_plants_exist(alert: str) -> None:
    """Under that name, and up to that strength."""
    most = {fault.name: fault.max_strength for fault in ALL_FAULTS}
    for name, strength in re.findall(
        r"fault set (\w+) ([\d.]+)", (RUNBOOKS / f"{alert}.md").read_text(encoding="utf-8")
    ):
        assert 0 < float(strength) <= most[name], name


def test_the_figures_of_production_are_those_of_the_source() -> None:
    """The Site Reliability Workbook, chapter 5, table 5-8: 14.4 over 1 h, 6 over 6 h, 1 over 3 d, of 30 d."""
    found = [(one.severity, one.long, one.short, PRODUCTION.burn_rate(one)) for one in PRODUCTION.windows]
    assert found == [("page", "1h", "5m", 14.4), ("page", "6h", "30m", 6), ("ticket", "3d", "6h", 1)]


@EVERY_SCALE
@pytest.mark.parametrize("one", OBJECTIVES, ids=lambda one: one.name)
def test_each_alert_can_fire(scale: Scale, one: Objective) -> None:
    """If all fails, the burn rate is 1 / budget: a limit above that would never be reached."""
    for window in scale.windows:
        assert scale.burn_rate(window) < 1 / (1 - one.shares[scale.name])


@EVERY_SCALE
def test_windows_hold_enough_values_and_are_looked_at_often_enough(scale: Scale) -> None:
    """Values come every 5 s; and from the urgent to the patient, windows grow and limits fall."""
    assert min(map(seconds, scale.lengths())) >= 6 * 5
    assert seconds(scale.interval) <= min(map(seconds, scale.lengths())) / 3
    for urgent, patient in pairwise(scale.windows):
        assert seconds(urgent.long) < seconds(patient.long)
        assert scale.burn_rate(urgent) > scale.burn_rate(patient)
    for window in scale.windows:
        assert seconds(window.short) * 4 <= seconds(window.long) < seconds(scale.period)


def test_the_silence_of_each_service_is_heard() -> None:
    """A fourth service would be missed by nobody."""
    ours = {name for name in services() if name.startswith("mythical-") and "build" in services()[name]}
    assert {service.name for service in SERVICES} == ours - {
        "mythical-workshop"
    }  # a page, which tells nothing of itself


def test_mimir_reads_the_rules_of_the_workshop_unless_it_is_told_otherwise() -> None:
    """From the folder that compose puts there, in the folder of the tenant that it calls by default."""
    assert "${MIMIR_RULES:/etc/mimir/rules}/${SLO_SCALE:workshop}" in CONFIGURATION
    assert "./mimir:/etc/mimir:ro,z" in services()["mimir"]["volumes"]
    assert {path.name for path in FOLDER.iterdir()} == {scale.name for scale in SCALES}


def test_every_switch_of_mimir_can_be_thrown_from_outside() -> None:
    """SLO_SCALE and ALERTS_TO have their defaults in one place, which is not compose."""
    told = services()["mimir"]["environment"]
    assert {name: told.get(name, "") for name in ("SLO_SCALE", "ALERTS_TO")} == {"SLO_SCALE": None, "ALERTS_TO": None}


def test_mimir_keeps_samples_for_as_long_as_the_period_of_the_workshop() -> None:
    """The budget of a longer one would be computed from what is left; docs/slos.md says so of production."""
    kept = yaml.safe_load(CONFIGURATION)["limits"]["compactor_blocks_retention_period"]
    assert seconds(kept) >= seconds(WORKSHOP.period)


def test_the_page_names_objectives_windows_and_alerts_as_they_are() -> None:
    """docs/slos.md is read by whoever does not read the source."""
    page = dict(sections((ROOT / "docs/slos.md").read_text(encoding="utf-8")))
    promised = {words(row["SLO"])[0]: row for row in rows(page["Objectives"])}
    assert set(promised) == {one.name for one in OBJECTIVES}
    for one in OBJECTIVES:
        for scale in SCALES:
            assert promised[one.name][scale.name] == f"{one.shares[scale.name] * 100:g} %"
    told = [tuple(row.values()) for row in rows(page["Alert windows"])]
    assert told == [
        (
            scale.name,
            window.severity,
            f"{window.budget * 100:g} %",
            window.long,
            window.short,
            f"{scale.burn_rate(window):g}",
        )
        for scale in SCALES
        for window in scale.windows
    ]
    assert [words(row["Alert"])[0] for row in rows(page["Alerts"])] == alerts()
    assert {words(row["Alert"])[0]: words(row["Scenario that fires it"]) for row in rows(page["Alerts"])} == fired_by()
