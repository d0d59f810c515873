"""The traffic plan has the rhythm of the original and depends on a seed."""

import random

import pytest

from common.core.endpoints import BORING, MYTHICAL, EndpointSet
from common.faults import REQUEST_WAVES, Faults
from services.requester.traffic_plan import BURST, CYCLE, EVEN_S, Round, TrafficPlan


def rounds(
    count: int, *, seed: int = 1, waves: float = 1, rate: float = 1, error_odds: float = 0, of: EndpointSet = MYTHICAL
) -> list[Round]:
    """Return the first rounds of a plan."""
    faults = Faults({REQUEST_WAVES.name: waves}, random.Random(seed))  # noqa: S311 - not for secrets
    plan = TrafficPlan(of, faults, seed=seed, rate=rate, error_odds=error_odds)
    return [plan.next() for _ in range(count)]


def mean(numbers: list[float]) -> float:
    """Return the arithmetic mean."""
    return sum(numbers) / len(numbers)


def test_one_seed_results_in_one_sequence() -> None:
    """Beasts, methods, names, and pauses are the same, so that a run can be repeated."""
    assert rounds(200, seed=5) == rounds(200, seed=5)
    assert rounds(200, seed=5) != rounds(200, seed=6)


def test_requests_do_not_depend_on_the_faults_and_the_rate() -> None:
    """A learner who changes one setting and compares must see the same requests."""

    def requests(planned: list[Round]) -> list[tuple[str, str, str, bool]]:
        return [(one.method, one.beast, one.name, one.then_delete) for one in planned]

    plain = requests(rounds(300, seed=5))
    assert requests(rounds(300, seed=5, waves=0)) == plain
    assert requests(rounds(300, seed=5, rate=3)) == plain
    assert requests(rounds(300, seed=5, error_odds=1)) == plain


def test_two_thousand_quick_requests_are_followed_by_a_thousand_slow_ones() -> None:
    """The pauses of a loop are 0 to 50 ms, then 100 to 1,100 ms, and the cycle repeats."""
    assert (CYCLE, BURST) == (3000, 2000)
    pauses = [planned.pause_s for planned in rounds(2 * CYCLE)]
    for start in (0, CYCLE):
        burst, quiet = pauses[start : start + BURST], pauses[start + BURST : start + CYCLE]
        assert 0 <= min(burst) <= max(burst) <= 0.05
        assert 0.1 <= min(quiet) <= max(quiet) <= 1.1
        assert mean(burst) == pytest.approx(0.025, rel=0.05)
        assert mean(quiet) == pytest.approx(0.6, rel=0.05)


def test_four_loops_have_the_rates_of_the_original() -> None:
    """They send about 160 requests/s for 12 s and then about 7 requests/s for 150 s."""
    pauses = [planned.pause_s for planned in rounds(CYCLE)]
    burst_s, quiet_s = sum(pauses[:BURST]) / 4, sum(pauses[BURST:]) / 4
    assert burst_s == pytest.approx(12.5, abs=1)
    assert quiet_s == pytest.approx(150, abs=8)
    assert BURST / burst_s == pytest.approx(160, abs=10)
    assert (CYCLE - BURST) / quiet_s == pytest.approx(6.7, abs=0.5)


def test_without_waves_requests_are_evenly_spaced_with_the_same_mean_rate() -> None:
    """With the fault request_waves at 0, the first third of a cycle is like the last."""
    even = [planned.pause_s for planned in rounds(CYCLE, waves=0)]
    waves = [planned.pause_s for planned in rounds(CYCLE, waves=1)]
    assert mean(even) == pytest.approx(mean(waves), rel=0.05)
    assert mean(even[:1000]) == pytest.approx(mean(even[2000:]), rel=0.1)
    assert max(even) <= 2 * EVEN_S


def test_waves_at_half_the_value_are_in_between() -> None:
    """The value of the fault is a scale, not a switch."""
    half = [planned.pause_s for planned in rounds(CYCLE, waves=0.5)]
    assert 0.025 < mean(half[:BURST]) < EVEN_S < mean(half[BURST:]) < 0.6


def test_the_rate_divides_the_pauses() -> None:
    """Ten times the rate means a tenth of the pause."""
    slow, quick = rounds(500), rounds(500, rate=10)
    assert [planned.pause_s / 10 for planned in slow] == pytest.approx([planned.pause_s for planned in quick])


@pytest.mark.parametrize("of", [MYTHICAL, BORING], ids=["mythical", "boring"])
def test_methods_and_beasts_are_equally_likely(of: EndpointSet) -> None:
    """A request is a GET or POST to any of the beasts."""
    planned = rounds(6000, of=of)
    assert mean([one.method == "GET" for one in planned]) == pytest.approx(0.5, abs=0.03)
    for name in of.names:
        assert mean([one.beast == name for one in planned]) == pytest.approx(1 / len(of.names), abs=0.03)


def test_the_probability_of_a_delete_after_a_get_depends_on_the_index() -> None:
    """It is index / 5: 0 for a unicorn, 4/5 for a beholder, and always 0 after a POST."""
    planned = rounds(15_000)
    assert not any(one.then_delete for one in planned if one.method == "POST")
    for index, name in enumerate(MYTHICAL.names):
        gets = [one for one in planned if one.method == "GET" and one.beast == name]
        assert mean([one.then_delete for one in gets]) == pytest.approx(index / 5, abs=0.04)


@pytest.mark.parametrize("odds", [0, 0.3, 1])
def test_the_share_of_malformed_requests_is_the_error_odds(odds: float) -> None:
    """It is none by default and all of them at 1."""
    assert mean([one.malformed for one in rounds(5000, error_odds=odds)]) == pytest.approx(odds, abs=0.03)
