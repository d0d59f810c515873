"""The names by which the doctor asks are those of the suite."""

import re

import pytest

from doctor.containers import known
from doctor.service import DROP_COUNTERS, SWITCHED_OFF
from doctor.signal_paths import PATHS
from tests.seams.compose_files import dotenv, everything, text
from tests.seams.tree import ROOT
from tools import suite

ALLOY = "\n".join(file.read_text(encoding="utf-8") for file in sorted((ROOT / "alloy").glob("*.alloy")))
SETTINGS = text("docs/reference/settings.md")


@pytest.mark.parametrize("signal", PATHS)
def test_every_hop_of_a_signal_is_there(signal: str) -> None:
    """The two parts of Alloy, the back end, its port and the setting of the service."""
    path = PATHS[signal]
    for component in (path.receiver, path.exporter):
        kind, _, label = component.rpartition(".")
        assert f'\n{kind} "{label}" {{' in ALLOY
    assert path.backend in everything()
    assert path.port_variable in dotenv()
    assert f"`{path.target_variable}`" in SETTINGS


def test_the_services_are_those_of_the_suite() -> None:
    """As the run without Docker counts them, each with its port."""
    assert {service.port_variable for service in suite.SERVICES} <= set(dotenv())
    assert set(PATHS) == set(suite.SIGNALS)


def test_every_container_is_known() -> None:
    """By the name that the file gives it, in whatever layer; workers of the load have none, for there can be many."""
    assert known() == {it["container_name"] for it in everything().values() if "container_name" in it}


@pytest.mark.parametrize("signal", SWITCHED_OFF)
def test_every_setting_that_stops_a_signal_is_documented(signal: str) -> None:
    """Under the same name."""
    assert all(f"`{name}`" in SETTINGS for name, _ in SWITCHED_OFF[signal])


@pytest.mark.parametrize("signal", DROP_COUNTERS)
def test_every_counter_of_losses_is_documented(signal: str) -> None:
    """In the words of OpenTelemetry: with dots, and without _total."""
    told = {re.sub(r"\W", "_", name) for name in re.findall(r"`([\w.]+)`", text("docs/reference/telemetry.md"))}
    assert {name.removesuffix("_total") for name, _ in DROP_COUNTERS[signal]} <= told
