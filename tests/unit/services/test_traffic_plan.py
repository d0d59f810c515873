"""The plan: the rhythm of the original, from a seed."""

import random

import pytest

from common.core.endpoints import BORING, MYTHICAL, EndpointSet
from common.faults import REQUEST_WAVES, Faults
from services.requester.traffic_plan import BURST, CYCLE, EVEN_S, Round, TrafficPlan


def rounds(
    count: int, *, seed: int = 1, waves: float = 1, rate: float = 1, error_odds: float = 0, of: EndpointSet = MYTHICAL
) -> list[Round]:
    """The first rounds of a plan."""
    faults = Faults({REQUEST_WAVES.name: waves}, random.Random(seed))  # noqa: S311 - dice, not secrets
    plan = TrafficPlan(of, faults, seed=seed, rate=rate, error_odds=error_odds)
    return [plan.next() for _ in range(count)]


def mean(numbers: list[float]) -> float:
    """Their mean."""
    return sum(numbers) / len(numbers)


def test_one_seed_gives_one_sequence() -> None:
    """The same beasts, methods, names and pauses, so that a run can be shown again."""
    assert rounds(200, seed=5) == rounds(200, seed=5)
    assert rounds(200, seed=5) != rounds(200, seed=6)


def test_what_is_asked_does_not_depend_on_the_faults_and_the_rate() -> None:
    """A learner changes one knob and compares: the requests must be the same ones."""

    def asked(planned: list[Round]) -> list[tuple[str, str, str, bool]]:
        return [(one.method, one.beast, one.name, one.then_delete) for one in planned]

    plain = asked(rounds(300, seed=5))
    assert asked(rounds(300, seed=5, waves=0)) == plain
    assert asked(rounds(300, seed=5, rate=3)) == plain
    assert asked(rounds(300, seed=5, error_odds=1)) == plain


def test_two_thousand_quick_requests_are_followed_by_a_thousand_slow_ones() -> None:
    """0 to 50 ms between the requests of a loop, then 100 to 1,100 ms, and again from the start."""
    assert (CYCLE, BURST) == (3000, 2000)
    pauses = [planned.pause_s for planned in rounds(2 * CYCLE)]
    for start in (0, CYCLE):
        burst, quiet = pauses[start : start + BURST], pauses[start + BURST : start + CYCLE]
        assert 0 <= min(burst) <= max(burst) <= 0.05
        assert 0.1 <= min(quiet) <= max(quiet) <= 1.1
        assert mean(burst) == pytest.approx(0.025, rel=0.05)
        assert mean(quiet) == pytest.approx(0.6, rel=0.05)


def test_four_loops_make_the_originals_figures() -> None:
    """About 160 requests/s for 12 s, then about 7 requests/s for 150 s."""
    pauses = [planned.pause_s for planned in rounds(CYCLE)]
    burst_s, quiet_s = sum(pauses[:BURST]) / 4, sum(pauses[BURST:]) / 4
    assert burst_s == pytest.approx(12.5, abs=1)
    assert quiet_s == pytest.approx(150, abs=8)
    assert BURST / burst_s == pytest.approx(160, abs=10)
    assert (CYCLE - BURST) / quiet_s == pytest.approx(6.7, abs=0.5)


def test_without_waves_requests_come_evenly_and_as_many_in_the_same_time() -> None:
    """The fault request_waves at 0: the first third of a cycle is like the last."""
    even = [planned.pause_s for planned in rounds(CYCLE, waves=0)]
    waves = [planned.pause_s for planned in rounds(CYCLE, waves=1)]
    assert mean(even) == pytest.approx(mean(waves), rel=0.05)
    assert mean(even[:1000]) == pytest.approx(mean(even[2000:]), rel=0.1)
    assert max(even) <= 2 * EVEN_S


def test_waves_of_half_the_strength_lie_between() -> None:
    """A fault is a knob, not a switch."""
    half = [planned.pause_s for planned in rounds(CYCLE, waves=0.5)]
    assert 0.025 < mean(half[:BURST]) < EVEN_S < mean(half[BURST:]) < 0.6


def test_the_rate_divides_the_pauses() -> None:
    """Ten times the rate is a tenth of the pause."""
    slow, quick = rounds(500), rounds(500, rate=10)
    assert [planned.pause_s / 10 for planned in slow] == pytest.approx([planned.pause_s for planned in quick])


@pytest.mark.parametrize("of", [MYTHICAL, BORING], ids=["mythical", "boring"])
def test_methods_and_beasts_are_equally_likely(of: EndpointSet) -> None:
    """GET or POST, each to any of the beasts."""
    planned = rounds(6000, of=of)
    assert mean([one.method == "GET" for one in planned]) == pytest.approx(0.5, abs=0.03)
    for name in of.names:
        assert mean([one.beast == name for one in planned]) == pytest.approx(1 / len(of.names), abs=0.03)


def test_after_a_get_a_name_is_deleted_as_often_as_its_place_in_the_list_says() -> None:
    """Index / 5: never a unicorn, four in five beholders; never after a POST."""
    planned = rounds(15_000)
    assert not any(one.then_delete for one in planned if one.method == "POST")
    for index, name in enumerate(MYTHICAL.names):
        gets = [one for one in planned if one.method == "GET" and one.beast == name]
        assert mean([one.then_delete for one in gets]) == pytest.approx(index / 5, abs=0.04)


@pytest.mark.parametrize("odds", [0, 0.3, 1])
def test_as_many_requests_are_wrong_as_the_error_odds_say(odds: float) -> None:
    """None by default, all of them at 1."""
    assert mean([one.malformed for one in rounds(5000, error_odds=odds)]) == pytest.approx(odds, abs=0.03)
