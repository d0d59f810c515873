"""The scenarios match the catalogue of faults, the code, and each other."""

import re

import pytest

from common.faults import ALL_FAULTS, NEW_VERSION_FAILS, SLOW_PROCESSING, SLOW_PUBLISH
from mimir.source.rules import alerts
from tests.seams.source_reading import instruments, span_names
from tests.seams.tree import ROOT
from tests.stack import test_alerts_suite, test_scenarios
from workshop import scenario, scenario_command
from workshop.scenario import Scenario
from workshop.scenario_command import CODE

SCENARIOS = [scenario.read(name) for name in scenario.names()]
each_scenario = pytest.mark.parametrize("of", SCENARIOS, ids=lambda of: of.name)


def test_there_is_a_scenario_for_each_fault_that_is_off_by_default() -> None:
    """The slow beasts and version 2.0.0 of the original have scenarios too."""
    wanted = {fault for fault in ALL_FAULTS if fault.default == 0} | {SLOW_PUBLISH, SLOW_PROCESSING, NEW_VERSION_FAILS}
    assert wanted <= {fault for of in SCENARIOS for fault in of.faults}


@each_scenario
def test_a_scenario_changes_something(of: Scenario) -> None:
    """A fault at its default value changes nothing."""
    assert of.faults
    assert all(value != fault.default for fault, value in of.faults.items())


@each_scenario
def test_the_texts_before_the_answer_do_not_reveal_it(of: Scenario) -> None:
    """The name, the title, the complaint, and the hints do not name a fault."""
    shown = " ".join((of.name, of.title, of.complaint, *of.hints)).lower()
    assert not [fault.name for fault in of.faults if fault.name in shown]
    assert 2 <= len(of.hints) <= 4


@each_scenario
def test_names_and_commands_are_in_backticks(of: Scenario) -> None:
    """Otherwise, the page would show `__name__` as a bold word; and `<beast>` is not escaped within backticks."""
    for given in (of.title, of.complaint, *of.hints, of.answer, *(symptom.sentence for symptom in of.symptoms)):
        assert given.count("`") % 2 == 0
        assert not re.search(r"\w_\w|__|[*{}<>\\]|\w\.[a-z]+\b|\(.*\)", CODE.sub("", given)), given


@each_scenario
def test_the_answer_names_files_that_exist(of: Scenario) -> None:
    """They are the places that implement its faults."""
    assert of.where
    assert [path for path in of.where if not (ROOT / path).is_file()] == []


@each_scenario
def test_each_scenario_has_a_query_for_the_stack(of: Scenario) -> None:
    """A symptom that only the gateway can show needs another one with a query; a profile is a query by itself."""
    assert any(it.promql or it.logql or it.traceql or it.gateway.signal == "profile" for it in of.symptoms)


@each_scenario
def test_traceql_compares_seconds_with_a_decimal_number(of: Scenario) -> None:
    """Tempo compares a whole number only with attributes that are integers, and seconds are not."""
    assert not [it.traceql for it in of.symptoms if re.search(r"_s [<>=]+ \d+(?![\d.])", it.traceql)]


@each_scenario
def test_a_question_to_loki_counts_lines(of: Scenario) -> None:
    """It is an instant query, for which Loki rejects a query that returns lines."""
    queries = [it.logql for it in of.symptoms if it.logql]
    assert [text for text in queries if not re.search(r"_over_time\(|\brate\(", text)] == []


def test_each_alert_is_fired_by_a_scenario() -> None:
    """An alert that cannot be tried may never fire, and a misspelled name would be waited for until the timeout."""
    assert {name for of in SCENARIOS for name in of.alerts} == set(alerts())


def test_the_stack_tests_run_every_scenario_and_every_alert() -> None:
    """A new one that is not in ROUNDS would silently be left out."""
    assert sorted(name for names in test_scenarios.ROUNDS for name in names) == scenario.names()
    names = {name for names in test_alerts_suite.ROUNDS for name in names}
    assert {alert for of in SCENARIOS if of.name in names for alert in of.alerts} == set(alerts())


@each_scenario
def test_the_code_emits_what_a_symptom_looks_for_in_the_gateway(of: Scenario) -> None:
    """A symptom with a misspelled name would never appear."""
    metrics = {instrument.name for instrument in instruments()}
    for look in (symptom.gateway for symptom in of.symptoms):
        name = look.of.get("name", "")
        if look.signal == "metric":
            assert name in metrics
        if look.signal == "spans" and name:
            assert name in span_names() or re.fullmatch(
                r"(GET|POST) /(api/)?<beast>|SELECT unicorn|LOCK all|publish_to_queue", name
            )


def test_all_scenarios_are_read_and_have_different_titles() -> None:
    """There are at least 18."""
    assert len(SCENARIOS) >= 18
    assert len({of.title for of in SCENARIOS}) == len(SCENARIOS)


def test_the_catalogue_lists_each_scenario_as_its_file_has_it() -> None:
    """docs/scenarios.md is generated; an outdated answer would mislead an instructor."""
    page = (ROOT / "docs/scenarios.md").read_text(encoding="utf-8")
    assert page == "\n".join(scenario_command.catalogue()) + "\n", (
        "run: python -m workshop scenario catalogue > docs/scenarios.md"
    )


def test_the_catalogue_folds_faults_hints_and_answers() -> None:
    """Outside the folded parts, no fault, hint, or answer is visible."""
    page = "\n".join(scenario_command.catalogue())
    visible = re.sub(r"<details>.*?</details>", "", page, flags=re.DOTALL)
    hidden = [text for of in SCENARIOS for text in (*of.hints, of.answer, *(f"`{fault.name}`" for fault in of.faults))]
    assert [text for text in hidden if text in visible] == []
