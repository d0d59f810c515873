"""The scenarios fit the catalogue of faults, the code and each other."""

import re

import pytest

from common.faults import ALL_FAULTS, NEW_VERSION_FAILS, SLOW_PROCESSING, SLOW_PUBLISH
from mimir.source.rules import alerts
from tests.seams.source_reading import instruments, span_names
from tests.seams.tree import ROOT
from tests.stack import test_alerts_suite, test_scenarios
from workshop import scenario, scenario_command
from workshop.scenario import Scenario

SCENARIOS = [scenario.read(name) for name in scenario.names()]
each_scenario = pytest.mark.parametrize("of", SCENARIOS, ids=lambda of: of.name)


def test_there_is_a_scenario_for_each_fault_that_is_off_by_default() -> None:
    """And for the slow beasts and the version 2.0.0 of the original."""
    wanted = {fault for fault in ALL_FAULTS if fault.default == 0} | {SLOW_PUBLISH, SLOW_PROCESSING, NEW_VERSION_FAILS}
    assert wanted <= {fault for of in SCENARIOS for fault in of.faults}


@each_scenario
def test_a_scenario_changes_something(of: Scenario) -> None:
    """A fault at its default strength is no trouble that was not there before."""
    assert of.faults
    assert all(strength != fault.default for fault, strength in of.faults.items())


@each_scenario
def test_what_a_learner_is_told_does_not_give_the_answer_away(of: Scenario) -> None:
    """Nor does the name, the title or a hint name a fault."""
    told = " ".join((of.name, of.title, of.complaint, *of.hints)).lower()
    assert not [fault.name for fault in of.faults if fault.name in told]
    assert 2 <= len(of.hints) <= 4


@each_scenario
def test_the_answer_leads_to_files_that_are_there(of: Scenario) -> None:
    """With the place where each of its faults is done."""
    assert of.where
    assert [path for path in of.where if not (ROOT / path).is_file()] == []


@each_scenario
def test_each_symptom_has_a_question_for_the_stack(of: Scenario) -> None:
    """One that only a gateway answers needs another one beside it; a profile is a question by itself."""
    assert any(it.promql or it.logql or it.traceql or it.gateway.signal == "profile" for it in of.symptoms)


@each_scenario
def test_a_question_to_loki_counts_lines(of: Scenario) -> None:
    """It is an instant query, for which Loki rejects a query that returns lines."""
    queries = [it.logql for it in of.symptoms if it.logql]
    assert [text for text in queries if not re.search(r"_over_time\(|\brate\(", text)] == []


def test_each_alert_is_fired_by_a_scenario() -> None:
    """An alert that nobody can try is one that may never fire; and a name with a slip is waited for in vain."""
    assert {name for of in SCENARIOS for name in of.alerts} == set(alerts())


def test_the_stack_is_tested_with_every_scenario_and_every_alert() -> None:
    """A new one that is not in ROUNDS would be left out, and nobody would notice."""
    assert sorted(name for names in test_scenarios.ROUNDS for name in names) == scenario.names()
    names = {name for names in test_alerts_suite.ROUNDS for name in names}
    assert {alert for of in SCENARIOS if of.name in names for alert in of.alerts} == set(alerts())


@each_scenario
def test_what_is_looked_for_in_the_gateway_is_told_by_the_code(of: Scenario) -> None:
    """A slip in a name would make a symptom that never comes."""
    metrics = {instrument.name for instrument in instruments()}
    for look in (symptom.gateway for symptom in of.symptoms):
        name = look.of.get("name", "")
        if look.signal == "metric":
            assert name in metrics
        if look.signal == "spans" and name:
            assert name in span_names() or re.fullmatch(
                r"(GET|POST) /(api/)?<beast>|SELECT unicorn|LOCK all|publish_to_queue", name
            )


def test_the_list_of_files_is_the_list_of_names() -> None:
    """Eighteen at least, and each can be read."""
    assert len(SCENARIOS) >= 18
    assert len({of.title for of in SCENARIOS}) == len(SCENARIOS)


def test_the_catalogue_lists_each_scenario_as_its_file_has_it() -> None:
    """docs/scenarios.md is generated; an outdated answer would mislead an instructor."""
    page = (ROOT / "docs/scenarios.md").read_text(encoding="utf-8")
    assert page == "\n".join(scenario_command.catalogue()) + "\n", (
        "run: python -m workshop scenario catalogue > docs/scenarios.md"
    )


def test_the_catalogue_folds_what_would_spoil_a_scenario() -> None:
    """Outside of the folded parts, no fault, no hint, and no answer is visible."""
    page = "\n".join(scenario_command.catalogue())
    visible = re.sub(r"<details>.*?</details>", "", page, flags=re.DOTALL)
    hidden = [text for of in SCENARIOS for text in (*of.hints, of.answer, *(f"`{fault.name}`" for fault in of.faults))]
    assert [text for text in hidden if text in visible] == []
