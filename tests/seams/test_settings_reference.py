"""docs/reference/settings.md lists the variables that the code reads, with their defaults and ranges."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from opentelemetry.sdk import environment_variables
from opentelemetry.util import http

from common.core.env import Env, SettingsError
from common.faults import ALL_FAULTS
from common.telemetry.standard_variables import CHECKS, UNSUPPORTED
from local.ports import Ports
from services.frontend import config as frontend
from services.recorder import config as recorder
from services.requester import config as requester
from services.server import config as server
from tests.seams.tree import ROOT, rows, sections, texts, words

LOADS: dict[str, Callable[[Env], object]] = {
    "server": server.load,
    "requester": requester.load,
    "recorder": recorder.load,
    "frontend": frontend.load,
}
SECTIONS = dict(sections((ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")))
STANDARD = "Standard variables that the SDK reads itself"
DEMO = "The demo"
# Of the API and of the instrumentations.
OF_NO_CONSTANT = {
    *("OTEL_PROPAGATORS", "OTEL_PYTHON_CONTEXT"),
    *("OTEL_PYTHON_EXCLUDED_URLS", "OTEL_PYTHON_FLASK_EXCLUDED_URLS"),
}
STANDARD_NAMES = {name for row in rows(SECTIONS[STANDARD]) for name in words(row["Variable"])}


@dataclass(frozen=True)
class Row:
    """A documented variable."""

    service: str
    name: str
    default: str
    allowed: str
    sentence: str


def documented() -> Iterator[Row]:
    """Yield each variable once for each service that reads it."""
    for section in SECTIONS.values():
        readers = re.search(r"^Read by: (.+)$", section, re.MULTILINE)
        for service in readers[1].split(", ") if readers else ():
            for row in rows(section):
                (name,) = words(row["Variable"])
                yield Row(service, name, row["Default"], row["Range"], row["What it does"])


ROWS = list(documented())


def variables_read(service: str) -> dict[str, str]:
    """Return the variables that a service reads when none is set, with their defaults."""
    env = Env({})
    LOADS[service](env)
    return env.variables_read


@pytest.mark.parametrize("service", LOADS)
def test_a_service_reads_the_documented_variables(service: str) -> None:
    """No variable is undocumented, and none has no effect."""
    assert sorted(variables_read(service)) == sorted(row.name for row in ROWS if row.service == service)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.service}-{row.name}")
def test_the_default_is_the_one_in_the_code(row: Row) -> None:
    """`none` stands for an empty value; of several documented defaults, the code has one."""
    default, documented_defaults = variables_read(row.service)[row.name], words(row.default)
    if row.default == "none":
        assert default == ""
    elif row.name == "HTTP_PORT":
        assert f"`{default}` {row.service}" in row.default
    else:
        assert documented_defaults[0] == default


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.service}-{row.name}")
def test_the_range_is_the_one_in_the_code(row: Row) -> None:
    """The ends are accepted; a value outside is rejected with a message that names the variable."""

    def load(value: str) -> None:
        LOADS[row.service](Env({row.name: value}))

    if bounds := re.fullmatch(r"(above )?([\d.]+) to ([\d.]+)", row.allowed):
        above, low, high = bounds.groups()
        good, bad = (
            [high, f"{low}.5" if above else low],
            [low if above else f"{float(low) - 1:g}", f"{float(high) + 1:.0f}", "x"],
        )
    elif options := words(row.allowed):
        good, bad = options, ["zzz"]
    else:
        good, bad = {
            "text": (["anything"], []),
            "IP address": (["10.0.0.7", "::1"], ["localhost", "10.0.0.7:80"]),
            "a path": ([__file__], ["/nowhere/at/all"]),
            "host:port": (["h:1"], ["h"]),
            "http or https address": (["https://h"], ["h"]),
            "whole number": (["-3"], ["x"]),
        }[row.allowed]
    for value in good:
        load(value)
    for value in bad:
        with pytest.raises(SettingsError, match=row.name):
            load(value)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.service}-{row.name}")
def test_each_variable_has_a_sentence(row: Row) -> None:
    """The sentence says what the variable does."""
    assert row.sentence.endswith(".")


def test_the_sdk_knows_the_standard_variables() -> None:
    """A misspelled variable would have no effect."""
    known = {value for of in (environment_variables, http) for value in vars(of).values() if isinstance(value, str)}
    assert STANDARD_NAMES - known - OF_NO_CONSTANT == set()
    assert not STANDARD_NAMES & {row.name for row in ROWS}


def test_every_standard_variable_that_is_checked_is_documented() -> None:
    """Those that are rejected are below the table."""
    assert CHECKS.keys() <= STANDARD_NAMES
    assert set(UNSUPPORTED) <= set(words(SECTIONS[STANDARD].rpartition("These are rejected")[2]))


def test_standard_variables_in_the_code_are_documented() -> None:
    """The code reads a few standard variables only to leave them to the SDK."""
    documented_names = STANDARD_NAMES | {row.name for row in ROWS} | set(UNSUPPORTED)
    for name, text in texts(".py"):
        if name.startswith(("common/", "services/")):
            for variable in re.findall(r'"(OTEL_[A-Z_]+)"', text):
                assert variable in documented_names, f"{name} reads {variable}"


def test_the_variables_of_the_demo_are_documented() -> None:
    """Its ports with their numbers, and every other variable that the code of `local` names."""
    defaults = {words(row["Variable"])[0]: row["Default"] for row in rows(SECTIONS[DEMO])}
    env = Env({})
    Ports.read(env)
    for variable, default in env.variables_read.items():
        assert words(defaults[variable]) == [default]
    named = {
        variable
        for name, text in texts(".py")
        if name.startswith("local/")
        for variable in re.findall(r'"(DEMO_[A-Z_]+|MYTHICAL_STATE)"', text)
    }
    assert named | set(env.variables_read) == set(defaults)


def test_a_fault_is_described_as_in_the_catalogue() -> None:
    """The reference repeats the sentence of common/faults, which the command and the page show, and may add to it."""
    sentences = {row.name: row.sentence for row in ROWS}
    for fault in ALL_FAULTS:
        assert sentences[fault.variable].startswith(fault.sentence)
