"""A run of a scenario keeps its faults on, also where a service does not answer each time."""

from collections.abc import Callable

import pytest

from common.faults import Fault
from workshop import WorkshopError, runner, scenario
from workshop.fault_client import FaultClient, FaultState
from workshop.runner import Runner


class Slow(FaultClient):
    """A client whose first `answered` settings succeed, and no other."""

    def __init__(self, answered: int) -> None:
        super().__init__({})
        self._answered = answered
        self.asked = 0
        self.on_third: Callable[[], None] = lambda: None

    def states(self) -> list[FaultState]:
        """None that matters here."""
        return []

    def set(self, fault: Fault, strength: float, seconds: float, *, blind: bool = False) -> None:  # noqa: ARG002
        """Succeed or fail."""
        self.asked += 1
        if self.asked == 3:
            self.on_third()
        if self.asked > self._answered:
            raise WorkshopError("the server does not answer")

    def clear(self, fault: Fault | None = None) -> None:
        """Nothing is set."""


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what is set renewed each hundredth of a second."""
    monkeypatch.setattr(runner, "RENEW_S", 0.01)


def test_what_is_set_goes_on_where_a_service_is_too_slow_to_renew_it() -> None:
    """An injected fault can slow down the service that has to renew it."""
    client = Slow(answered=1)
    one = Runner(scenario.read("slow-lists"), client, lambda _: None)
    client.on_third = one.stop
    assert not one.run(0, 60)
    assert client.asked == 3


def test_a_run_ends_where_nothing_could_be_set() -> None:
    """At the start, and once the faults have ended by themselves."""
    with pytest.raises(WorkshopError, match="does not answer"):
        Runner(scenario.read("slow-lists"), Slow(answered=0), lambda _: None).run(0, 0.2)


def test_a_run_ends_when_what_was_set_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever looks for the signs would look in vain."""
    monkeypatch.setattr(runner, "LEASE_S", 0.05)
    with pytest.raises(WorkshopError, match="does not answer"):
        Runner(scenario.read("slow-lists"), Slow(answered=1), lambda _: None).run(0, 60)
