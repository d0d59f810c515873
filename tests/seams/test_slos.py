"""The rules match their source and query only metrics that are emitted, and each alert has a runbook."""

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
from tests.seams.dashboard_metrics import FROM_OTHERS, documented, queried_by_rules
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
    """Return the scenarios that fire each alert."""
    every = {name: scenario.read(name).alerts for name in scenario.names()}
    return {alert: [name for name, fired in every.items() if alert in fired] for alert in alerts()}


def rules(scale: Scale) -> list[Rule]:
    """Return all rules of a scale."""
    return [rule for group in groups(scale) for rule in group.rules]


def test_no_folder_of_mimir_is_a_prefix_of_another() -> None:
    """Patch releases such as 3.0.2 compare the paths as text: `alertmanager` next to `alertmanager-x` is an error."""
    folders = re.findall(r"(?:dir|path|directory): (\$\{MIMIR_DATA:\S+)", CONFIGURATION)
    assert len(folders) >= 7
    assert [(one, other) for one in folders for other in folders if one != other and other.startswith(one)] == []


def test_the_files_match_their_source() -> None:
    """A manual edit of a rule is lost when the files are next generated."""
    assert stale(FOLDER, generated()) == []


@EVERY_SCALE
def test_a_file_of_rules_parses_to_its_source(scale: Scale) -> None:
    """The generator writes the YAML without a library; quotes and colons in expressions must not change it."""
    read = yaml.safe_load((FOLDER / scale.name / TENANT / "slo.yaml").read_text(encoding="utf-8"))
    found = [rule for group in read["groups"] for rule in group["rules"]]
    assert [one["expr"] for one in found] == [rule.expression for rule in rules(scale)]
    assert [one.get("labels", {}) for one in found] == [rule.labels for rule in rules(scale)]
    assert [one.get("annotations", {}) for one in found] == [rule.annotations for rule in rules(scale)]


def test_each_metric_that_a_rule_queries_is_emitted() -> None:
    """A service emits it according to the reference, or another program was seen to emit it."""
    assert queried_by_rules() - documented() - FROM_OTHERS == set()


@EVERY_SCALE
def test_each_alert_has_a_summary_a_severity_and_a_runbook(scale: Scale) -> None:
    """The severity is page or ticket."""
    for rule in rules(scale):
        if rule.alert:
            assert rule.labels["severity"] in {"page", "ticket"}
            assert rule.annotations["summary"].endswith(".")
            assert rule.annotations["runbook_url"]


@EVERY_ALERT
def test_each_alert_has_a_runbook(alert: str) -> None:
    """All runbooks have the same sections."""
    text = (RUNBOOKS / f"{alert}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {alert}\n\n**It means**: ")
    assert [heading for heading, _ in sections(text)][1:] == PARTS
    assert rows(dict(sections(text))["Likely causes"])


@EVERY_ALERT
def test_a_runbook_names_the_scenarios_that_fire_its_alert(alert: str) -> None:
    """The person on call should have seen the alert before an incident."""
    text = (RUNBOOKS / f"{alert}.md").read_text(encoding="utf-8")
    assert re.findall(r"^To try it: .*scenario run ([\w-]+)`", text, re.MULTILINE) == fired_by()[alert]


def test_every_runbook_has_an_alert() -> None:
    """If an alert is renamed, its runbook must be renamed too."""
    assert {path.stem for path in RUNBOOKS.glob("*.md")} - {"README"} == set(alerts())


@EVERY_ALERT
def test_the_link_of_an_alert_opens_its_runbook(alert: str) -> None:
    """The link has the number of a panel, which changes if a panel is added above."""
    board = boards()["runbooks"]
    (rule, *_) = [rule for rule in rules(WORKSHOP) if rule.alert == alert]
    uid, panel = re.fullmatch(
        r"\{\{ \$externalURL \}\}/d/([\w-]+)/runbooks\?viewPanel=panel-(\d+)", rule.annotations["runbook_url"]
    ).groups()  # type: ignore[union-attr]
    assert uid == board["uid"]
    assert [one["title"] for one in board["panels"] if one["id"] == int(panel)] == [alert]


@EVERY_ALERT
def test_the_dashboards_that_a_runbook_names_exist(alert: str) -> None:
    """A dead link would be found during an incident."""
    named = set(re.findall(r"127\.0\.0\.1:3000/d/([\w-]+)", (RUNBOOKS / f"{alert}.md").read_text(encoding="utf-8")))
    assert named
    assert named <= {board["uid"] for board in boards().values()}


@EVERY_ALERT
def test_the_metrics_that_a_runbook_queries_exist(alert: str) -> None:
    """The test reads names with an underscore and a selector."""
    text = (RUNBOOKS / f"{alert}.md").read_text(encoding="utf-8")
    queried = set(re.findall(r"\b([a-z]+(?:_[a-z]+)+)(?=[{\[])", text))
    assert queried <= documented() | FROM_OTHERS


@EVERY_ALERT
def test_the_settings_that_a_runbook_names_exist(alert: str) -> None:
    """A misspelled variable fixes nothing."""
    text = (RUNBOOKS / f"{alert}.md").read_text(encoding="utf-8")
    known = "".join(
        (ROOT / page).read_text(encoding="utf-8") for page in ("docs/reference/settings.md", "loadtest/README.md")
    )
    for variable in re.findall(r"\b([A-Z]+(?:_[A-Z]+)+)\b", text):
        assert f"`{variable}`" in known, variable


@EVERY_ALERT
def test_the_faults_that_a_runbook_injects_exist(alert: str) -> None:
    """The value is within the fault's range."""
    maximum = {fault.name: fault.max_strength for fault in ALL_FAULTS}
    for name, value in re.findall(r"fault set (\w+) ([\d.]+)", (RUNBOOKS / f"{alert}.md").read_text(encoding="utf-8")):
        assert 0 < float(value) <= maximum[name], name


def test_the_burn_rates_of_production_are_those_of_the_source() -> None:
    """The Site Reliability Workbook, chapter 5, table 5-8: 14.4 over 1 h, 6 over 6 h, 1 over 3 d, of 30 d."""
    found = [(one.severity, one.long, one.short, PRODUCTION.burn_rate(one)) for one in PRODUCTION.windows]
    assert found == [("page", "1h", "5m", 14.4), ("page", "6h", "30m", 6), ("ticket", "3d", "6h", 1)]


@EVERY_SCALE
@pytest.mark.parametrize("one", OBJECTIVES, ids=lambda one: one.name)
def test_each_alert_can_fire(scale: Scale, one: Objective) -> None:
    """If all requests fail, the burn rate is 1 / budget; a higher threshold would never be reached."""
    for window in scale.windows:
        assert scale.burn_rate(window) < 1 / (1 - one.shares[scale.name])


@EVERY_SCALE
def test_windows_hold_enough_samples_and_are_evaluated_often_enough(scale: Scale) -> None:
    """Samples come every 5 s. From the fast to the slow alert, windows grow and thresholds fall."""
    assert min(map(seconds, scale.lengths())) >= 6 * 5
    assert seconds(scale.interval) <= min(map(seconds, scale.lengths())) / 3
    for fast, slow in pairwise(scale.windows):
        assert seconds(fast.long) < seconds(slow.long)
        assert scale.burn_rate(fast) > scale.burn_rate(slow)
    for window in scale.windows:
        assert seconds(window.short) * 4 <= seconds(window.long) < seconds(scale.period)


def test_every_service_has_an_alert_for_missing_telemetry() -> None:
    """Otherwise, an added service could stop unnoticed."""
    ours = {name for name in services() if name.startswith("mythical-") and "build" in services()[name]}
    assert {service.name for service in SERVICES} == ours - {"mythical-workshop"}  # a page, which emits no telemetry


def test_mimir_reads_the_workshop_rules_by_default() -> None:
    """Compose mounts the folder, which has a subfolder with the name of the default tenant."""
    assert "${MIMIR_RULES:/etc/mimir/rules}/${SLO_SCALE:workshop}" in CONFIGURATION
    assert "./mimir:/etc/mimir:ro,z" in services()["mimir"]["volumes"]
    assert {path.name for path in FOLDER.iterdir()} == {scale.name for scale in SCALES}


def test_every_switch_of_mimir_can_be_set_from_the_shell() -> None:
    """The defaults of SLO_SCALE and ALERTS_TO are not in compose."""
    environ = services()["mimir"]["environment"]
    assert {name: environ.get(name, "") for name in ("SLO_SCALE", "ALERTS_TO")} == {
        "SLO_SCALE": None,
        "ALERTS_TO": None,
    }


def test_mimir_keeps_samples_for_the_period_of_the_workshop() -> None:
    """The budget of a longer period would be computed from incomplete data; docs/slos.md says so for production."""
    kept = yaml.safe_load(CONFIGURATION)["limits"]["compactor_blocks_retention_period"]
    assert seconds(kept) >= seconds(WORKSHOP.period)


def test_the_page_has_the_objectives_windows_and_alerts_of_the_source() -> None:
    """docs/slos.md is the only description outside the source."""
    page = dict(sections((ROOT / "docs/slos.md").read_text(encoding="utf-8")))
    objectives = {words(row["SLO"])[0]: row for row in rows(page["Objectives"])}
    assert set(objectives) == {one.name for one in OBJECTIVES}
    for one in OBJECTIVES:
        for scale in SCALES:
            assert objectives[one.name][scale.name] == f"{one.shares[scale.name] * 100:g} %"
    windows = [tuple(row.values()) for row in rows(page["Alert windows"])]
    assert windows == [
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
