"""What `scenario` says: the answer with its questions, and the signs that a run has seen."""

from collections.abc import Callable
from pathlib import Path

import pytest

from workshop import WorkshopError, scenario
from workshop.gateway import Gateway
from workshop.scenario import GatewayQuery, Symptom
from workshop.scenario_command import _visible_signs, answer
from workshop.stack import Backends, Stack

NOBODY = "http://127.0.0.1:1"


class Answering(Gateway):
    """A gateway that is there, and shows everything."""

    def answers(self) -> bool:
        """It does."""
        return True

    def shows(self, look: GatewayQuery) -> bool:  # noqa: ARG002 - whatever it is
        """All of it."""
        return True


class Told(Stack):
    """A stack in which one alert fires, and of which symptoms are as `shows` says."""

    def __init__(self, shown: Callable[[Symptom], bool]) -> None:
        super().__init__(Backends(*[NOBODY] * 4))
        self._shown = shown

    def answers(self) -> bool:
        """There is one."""
        return True

    def shows(self, symptom: Symptom) -> bool:
        """As told."""
        return self._shown(symptom)

    def firing(self) -> set[str]:
        """One, and another that is none of the scenario's."""
        return {"NothingRecorded", "AlloyDropping"}


def away(_: Symptom) -> bool:
    """Loki was stopped, perhaps."""
    raise WorkshopError("nothing answers")


OF = scenario.read("standstill")
TELLS = [symptom.sentence for symptom in OF.symptoms]


@pytest.mark.parametrize(
    ("gateway", "stack", "signs"),
    [
        (Answering(NOBODY), Told(lambda _: True), TELLS),
        (Gateway(NOBODY), Told(lambda it: bool(it.promql)), [TELLS[1], "the alert NothingRecorded fires"]),
        (Gateway(NOBODY), Told(away), ["the alert NothingRecorded fires"]),
    ],
)
def test_signs_are_looked_for_at_the_gateway_or_else_in_the_stack(
    gateway: Gateway, stack: Stack, signs: list[str]
) -> None:
    """Alerts are where Mimir is; a back end that is away hides its own signs, and ends nothing."""
    seen = _visible_signs(OF, gateway, stack)
    assert seen is not None
    assert list(seen()) == signs


def test_where_nobody_can_be_asked_nothing_is_said_of_signs() -> None:
    """A run goes on all the same."""
    assert _visible_signs(OF, Gateway(NOBODY), Stack(Backends(*[NOBODY] * 4))) is None


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("standstill", "Alerts that it fires, with runbooks in docs/runbooks: NothingRecorded"),
        ("slow-answers", "    Pyroscope: mythical-server, CPU: compare_all_names, above 10 %"),
    ],
)
def test_the_answer_names_alert_and_profile(name: str, line: str, tmp_path: Path) -> None:
    """Beside the questions in the languages of the stack."""
    assert line in answer(tmp_path / "scenario.lock", name)
