"""The queries of each scenario in a running stack return results while the scenario runs, and none afterwards.

Scenarios that don't hide each other run concurrently: one after the other, they would run for an hour.
"""

import time
from contextlib import ExitStack, suppress

import pytest

from tests.stack.backends import Backends, eventually, workshop_backends
from tests.stack.scenario_running import running
from workshop import WorkshopError, scenario
from workshop.fault_client import FaultClient
from workshop.scenario import Symptom
from workshop.stack import Stack

# Rates are over a minute, of samples pushed every five seconds, in waves with few requests for two minutes.
APPEARS_S, DISAPPEARS_S = 300.0, 300.0
LASTS_S = 900.0
# While its clock is slow, the recorder's signals are not among the latest: no round has two scenarios of this kind.
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


@pytest.mark.timeout(APPEARS_S + DISAPPEARS_S + 60)
@pytest.mark.parametrize("names", ROUNDS, ids=" ".join)
def test_a_scenarios_queries_return_results_only_while_it_runs(
    names: tuple[str, ...], stack: Backends, fault_client: FaultClient
) -> None:
    """They return none afterwards: a query that always returns a result shows nothing."""
    symptoms = [(name, symptom) for name in names for symptom in scenario.read(name).symptoms]
    with ExitStack() as scenarios:
        for name in names:
            scenarios.enter_context(running(name, fault_client, LASTS_S))
        _wait_for_each(stack, symptoms, APPEARS_S, present=True)
    _wait_for_each(stack, symptoms, DISAPPEARS_S, present=False)


def _wait_for_each(stack: Backends, symptoms: list[tuple[str, Symptom]], deadline_s: float, *, present: bool) -> None:
    """Wait until each symptom was present, or absent, once; not necessarily at the same time."""
    queries = Stack(workshop_backends(stack))
    remaining = list(symptoms)

    def poll() -> bool:
        for each in list(remaining):
            with suppress(WorkshopError):  # a backend that is slow for once
                results = list(queries.answers_to(each[1]))
                if not results or (all(results) if present else not any(results)):
                    remaining.remove(each)
        return not remaining

    began = time.monotonic()
    try:
        eventually(poll, "all symptoms" if present else "end of all symptoms", deadline_s)
    except AssertionError:
        pytest.fail(
            f"{time.monotonic() - began:.0f} s: not {present=}: {[(name, it.sentence) for name, it in remaining]}"
        )
