"""An injected fault is off at 0, always triggers at 1, and triggers at random in between."""

import random

import pytest

from common import faults
from common.core.env import Env, SettingsError
from common.faults import ALL_FAULTS, Fault, Faults

FAULT = faults.NULL_NAME
SLOW = faults.SLOW_PUBLISH


def rng(seed: int) -> random.Random:
    """Return a generator with a fixed sequence."""
    return random.Random(seed)  # noqa: S311 - not for secrets


def with_strength(fault: Fault, strength: float, seed: int = 7) -> Faults:
    """Return faults with one of them set."""
    return Faults({fault.name: strength}, rng(seed))


@pytest.mark.parametrize("seed", range(3))
def test_a_fault_at_0_never_triggers_and_at_1_always_does(seed: int) -> None:
    """A learner turns a fault off to prove that it was the cause."""
    assert not any(with_strength(FAULT, 0, seed).should_trigger(FAULT) for _ in range(1000))
    assert all(with_strength(FAULT, 1, seed).should_trigger(FAULT) for _ in range(1000))


@pytest.mark.parametrize("strength", [0.1, 0.5, 0.9])
def test_a_fault_between_0_and_1_triggers_with_that_probability(strength: float) -> None:
    """The value of such a fault is a probability."""
    fault = with_strength(FAULT, strength)
    share = sum(fault.should_trigger(FAULT) for _ in range(20_000)) / 20_000
    assert share == pytest.approx(strength, abs=0.01)


@pytest.mark.parametrize("strength", [0, 0.5, 1, 10])
def test_a_slow_fault_scales_its_delay_with_its_value(strength: float) -> None:
    """The delay is between the two bounds times the value, and 0 if the fault is off."""
    slow = with_strength(SLOW, strength)
    times = [slow.random_delay(SLOW, 0.5, 2.5) for _ in range(1000)]
    assert min(times) >= 0.5 * strength
    assert max(times) <= 2.5 * strength
    assert (max(times) == 0) is (strength == 0)


def test_a_fault_that_is_not_set_is_off() -> None:
    """A service supports only its own faults; any other is off there and costs only a lookup."""
    none = Faults({}, rng(1))
    assert none.strength(FAULT) == 0
    assert Faults({FAULT.name: 0.1}, rng(1)).strength(SLOW) == 0
    assert not none.should_trigger(FAULT)
    assert none.random_delay(SLOW, 1, 2) == 0


def test_the_same_seed_triggers_at_the_same_calls() -> None:
    """The random generator is passed in, so that a run can be repeated."""
    first, second = (with_strength(FAULT, 0.5, seed=3) for _ in range(2))
    assert [first.should_trigger(FAULT) for _ in range(50)] == [second.should_trigger(FAULT) for _ in range(50)]


@pytest.mark.parametrize("fault", ALL_FAULTS, ids=lambda fault: fault.name)
def test_every_fault_has_a_variable_a_sentence_and_a_range(fault: Fault) -> None:
    """A fault without a setting and a description could not be found and proven."""
    assert fault.variable == f"FAULT_{fault.name.upper()}"
    assert fault.sentence.endswith(".")
    assert 0 <= fault.default <= fault.max_strength
    assert faults.configured_strengths(Env({}), fault) == {fault.name: fault.default}
    assert faults.configured_strengths(Env({fault.variable: "0"}), fault) == {fault.name: 0}
    assert faults.configured_strengths(Env({fault.variable: str(fault.max_strength)}), fault) == {
        fault.name: fault.max_strength
    }
    for outside in ("-0.1", str(fault.max_strength + 0.1)):
        with pytest.raises(SettingsError, match=fault.variable):
            faults.configured_strengths(Env({fault.variable: outside}), fault)
