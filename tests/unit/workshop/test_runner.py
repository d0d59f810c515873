"""A run of a scenario keeps its faults on, even if a service does not always respond."""

from collections.abc import Callable

import pytest

from common.faults import Fault
from workshop import WorkshopError, runner, scenario
from workshop.fault_client import FaultClient, FaultState
from workshop.runner import Runner


class Slow(FaultClient):
    """A client whose first `successes` settings succeed."""

    def __init__(self, successes: int) -> None:
        super().__init__({})
        self._successes = successes
        self.calls = 0
        self.on_third: Callable[[], None] = lambda: None

    def states(self) -> list[FaultState]:
        """Return no faults."""
        return []

    def set(self, fault: Fault, strength: float, seconds: float, *, blind: bool = False) -> None:  # noqa: ARG002
        """Succeed or fail."""
        self.calls += 1
        if self.calls == 3:
            self.on_third()
        if self.calls > self._successes:
            raise WorkshopError("the server does not answer")

    def clear(self, fault: Fault | None = None) -> None:
        """Do nothing."""


@pytest.fixture(autouse=True)
def frequent_renewal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Renew faults every hundredth of a second."""
    monkeypatch.setattr(runner, "RENEW_S", 0.01)


def test_a_run_continues_if_a_service_is_too_slow_to_renew_a_fault() -> None:
    """An injected fault can slow down the service that has to renew it."""
    client = Slow(successes=1)
    one = Runner(scenario.read("slow-lists"), client, lambda _: None)
    client.on_third = one.stop
    assert not one.run(0, 60)
    assert client.calls == 3


def test_a_run_ends_if_no_fault_could_be_set() -> None:
    """This holds at the start, and when the leases of the faults have expired."""
    with pytest.raises(WorkshopError, match="does not answer"):
        Runner(scenario.read("slow-lists"), Slow(successes=0), lambda _: None).run(0, 0.2)


def test_a_run_ends_when_its_faults_have_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    """Learners would look for symptoms that no longer exist."""
    monkeypatch.setattr(runner, "LEASE_S", 0.05)
    with pytest.raises(WorkshopError, match="does not answer"):
        Runner(scenario.read("slow-lists"), Slow(successes=1), lambda _: None).run(0, 60)
