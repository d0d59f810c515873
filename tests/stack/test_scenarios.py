"""The queries of each scenario, in a running stack: an answer while the scenario runs, none when it is over.

Scenarios that do not hide each other run side by side: one after the other, they would take an hour.
"""

import time
from contextlib import ExitStack

import pytest

from tests.stack.backends import Backends, addresses, eventually
from tests.stack.scenario_running import running
from workshop import scenario
from workshop.fault_client import FaultClient
from workshop.scenario import Symptom
from workshop.stack import Stack

# Rates are over a minute, of what is pushed each five seconds, in waves that leave little to see for two minutes.
COMES_S, GOES_S = 300.0, 300.0
LASTS_S = 900.0
# What the recorder tells while its clock is slow is not among the latest: no round has both of such.
ROUNDS = (
    (
        "slow-lists",
        "lost-events",
        "metrics-bill",
        "loud-server",
        "torn-traces",
        "swelling-recorder",
        "bad-release",
        "empty-page",
    ),
    ("slow-pages", "stuck-writes", "late-records", "slow-beasts", "lost-samples", "slow-for-people"),
    ("busy-database", "slow-requests", "slow-answers", "effect-before-cause", "lost-clicks"),
    ("standstill", "no-news", "slow-after-import"),
    # Half of the time, the server rejects all requests, which the symptoms of others need.
    ("unavailable-by-turns",),
)


@pytest.mark.timeout(COMES_S + GOES_S + 60)
@pytest.mark.parametrize("names", ROUNDS, ids=" ".join)
def test_the_queries_of_a_scenario_have_answers_while_it_runs(
    names: tuple[str, ...], stack: Backends, switches: FaultClient
) -> None:
    """And none any more when it is over: a query that always answers shows nothing."""
    symptoms = [(name, symptom) for name in names for symptom in scenario.read(name).symptoms]
    with ExitStack() as scenarios:
        for name in names:
            scenarios.enter_context(running(name, switches, LASTS_S))
        _each(stack, symptoms, COMES_S, true=True)
    _each(stack, symptoms, GOES_S, true=False)


def _each(stack: Backends, symptoms: list[tuple[str, Symptom]], deadline_s: float, *, true: bool) -> None:
    """Return when each symptom was seen, or was gone, once; each at a time of its own."""
    asked = Stack(addresses(stack))
    left = [(name, it) for name, it in symptoms if list(asked.answers_to(it))]

    def look() -> bool:
        for each in list(left):
            answers = list(asked.answers_to(each[1]))
            if all(answers) if true else not any(answers):
                left.remove(each)
        return not left

    begun = time.monotonic()
    try:
        eventually(look, "all symptoms" if true else "end of all symptoms", deadline_s)
    except AssertionError:
        pytest.fail(f"{time.monotonic() - begun:.0f} s: not {true}: {[(name, it.sentence) for name, it in left]}")
