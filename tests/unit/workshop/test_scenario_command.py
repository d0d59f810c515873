"""The command `scenario` prints the answer with its queries, and the symptoms that a run has shown."""

from collections.abc import Callable
from pathlib import Path

import pytest

from workshop import WorkshopError, scenario
from workshop.gateway import Gateway
from workshop.scenario import GatewayQuery, Symptom
from workshop.scenario_command import _visible_signs, answer
from workshop.stack import Backends, Stack

NO_SERVER = "http://127.0.0.1:1"


class RespondingGateway(Gateway):
    """A gateway that responds and shows every symptom."""

    def answers(self) -> bool:
        """Return true."""
        return True

    def shows(self, look: GatewayQuery) -> bool:  # noqa: ARG002 - whatever it is
        """Return true."""
        return True


class FakeStack(Stack):
    """A stack with firing alerts, whose symptoms depend on a function."""

    def __init__(self, shown: Callable[[Symptom], bool]) -> None:
        super().__init__(Backends(*[NO_SERVER] * 4))
        self._shown = shown

    def answers(self) -> bool:
        """Return true."""
        return True

    def shows(self, symptom: Symptom) -> bool:
        """Return the result of the function."""
        return self._shown(symptom)

    def firing(self) -> set[str]:
        """Return an alert of the scenario and another one."""
        return {"NothingRecorded", "AlloyDropping"}


def unavailable(_: Symptom) -> bool:
    """Raise the error of a stopped Loki."""
    raise WorkshopError("no response")


OF = scenario.read("standstill")
SENTENCES = [symptom.sentence for symptom in OF.symptoms]


@pytest.mark.parametrize(
    ("gateway", "stack", "symptoms"),
    [
        (RespondingGateway(NO_SERVER), FakeStack(lambda _: True), SENTENCES),
        (Gateway(NO_SERVER), FakeStack(lambda it: bool(it.promql)), [SENTENCES[1], "the alert NothingRecorded fires"]),
        (Gateway(NO_SERVER), FakeStack(unavailable), ["the alert NothingRecorded fires"]),
    ],
)
def test_symptoms_are_queried_from_the_gateway_or_else_from_the_stack(
    gateway: Gateway, stack: Stack, symptoms: list[str]
) -> None:
    """Alerts are in Mimir; an unavailable backend hides its own symptoms and does not end the run."""
    seen = _visible_signs(OF, gateway, stack)
    assert seen is not None
    assert list(seen()) == symptoms


def test_without_gateway_and_stack_no_symptoms_are_reported() -> None:
    """A run continues anyway."""
    assert _visible_signs(OF, Gateway(NO_SERVER), Stack(Backends(*[NO_SERVER] * 4))) is None


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("standstill", "Alerts that it fires, with runbooks in docs/runbooks: NothingRecorded"),
        ("slow-answers", "    Pyroscope: mythical-server, CPU: compare_all_names, above 10 %"),
    ],
)
def test_the_answer_names_alert_and_profile(name: str, line: str, tmp_path: Path) -> None:
    """The queries in the languages of the stack are listed too."""
    assert line in answer(tmp_path / "scenario.lock", name)
