"""Alloy's files, its switches and the page about them say the same."""

import json
import re
from functools import reduce
from operator import getitem
from typing import Any

import pytest

from tests.seams.tree import ROOT, rows, sections, words
from tools.suite import SERVICES

FOLDER = ROOT / "alloy"
FILES = {path.name: path.read_text(encoding="utf-8") for path in sorted(FOLDER.glob("*.alloy"))}
EVERYTHING = "\n".join(FILES.values())
PAGE = dict(sections((FOLDER / "README.md").read_text(encoding="utf-8")))
COMPONENT = re.compile(r'^([a-z_]+(?:\.[a-z_]+)+) "(\w+)"', re.MULTILINE)
READ = re.compile(r'sys\.env\("(\w+)"\)')
WITH_DEFAULT = re.compile(r'coalesce\(\s*sys\.env\("(\w+)"\),\s*"((?:[^"\\]|\\.)*)",?\s*\)')
SWITCH = re.compile(
    r'export "(?P<name>\w+)" \{\s*value = \[(?P<list>[^\]]+)\]\[\{(?P<map>[^}]+)\}'
    r'\[coalesce\(sys\.env\("(?P<variable>\w+)"\), "(?P<default>\w+)"\)\]\]'
)
SWITCHES = {found["name"]: found.groupdict() for found in SWITCH.finditer(FILES["settings.alloy"])}
# A lookup ends in the name of a switch, within a custom component in that of its argument; what it offers begins with
# the brace that is on the same depth.
LOOKUP = re.compile(r"\}\[(?:choices\.made\.(\w+)|argument\.(\w+)\.value)\]")
ENDPOINT_FILES = ("endpoints.json", "endpoints-cloud.json")
# Nothing here does: configurations of the original, and of workshops about it, read credentials from the file.
READ_ELSEWHERE = {("traces", "basicAuthToken")} | {
    (signal, "basicAuth", name) for signal in ("metrics", "logs", "profiles") for name in ("username", "password")
}


def positions(switch: str) -> set[str]:
    """The positions that a switch has in settings.alloy."""
    return set(re.findall(r'"(\w+)"', SWITCHES[switch]["list"]))


def table(title: str) -> list[dict[str, str]]:
    """A table of the page."""
    return rows(PAGE[title])


def documented() -> dict[str, dict[str, str]]:
    """Each environment variable of the page, with its row."""
    return {
        words(row["Variable"])[0]: row
        for title in ("Options", "Endpoints and ports", "Grafana Cloud")
        for row in table(title)
    }


def offered(content: str) -> list[tuple[str, set[str]]]:
    """Each lookup by a switch, and the words that it knows."""
    found = []
    for lookup in LOOKUP.finditer(content):
        depth, start = 1, lookup.start()
        while depth:
            start -= 1
            depth += {"}": 1, "{": -1}.get(content[start], 0)
        inner = content[start + 1 : lookup.start()]
        while (flat := re.sub(r"[\[{][^\[\]{}]*[\]}]", "", inner)) != inner:
            inner = flat
        found.append((lookup[1] or lookup[2], set(re.findall(r'"(\w+)"\s*=', inner))))
    return found


def endpoints(name: str) -> dict[str, Any]:
    """Where signals go, by one of the two files."""
    content = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def test_the_page_names_every_variable_that_alloy_reads_and_no_other() -> None:
    """A variable on the page that nobody reads is a promise that is not kept."""
    assert set(documented()) == set(READ.findall(EVERYTHING))


def test_the_page_names_the_default_of_each_variable() -> None:
    """And each variable has the same default wherever it is read."""
    for variable, default in WITH_DEFAULT.findall(EVERYTHING):
        assert words(documented()[variable]["Default"]) == [default], variable


def test_the_page_names_the_positions_of_each_switch() -> None:
    """All of them, and no other."""
    assert {row["Variable"].strip("`") for row in table("Options")} == {one["variable"] for one in SWITCHES.values()}
    for name, switch in SWITCHES.items():
        assert set(words(documented()[switch["variable"]]["Values"])) == positions(name)


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_numbers_its_positions_in_their_order(name: str) -> None:
    """The list gives the word, the map its number: in another order `on` would mean `off`."""
    numbered = {word: int(number) for word, number in re.findall(r'"(\w+)" = (\d+)', SWITCHES[name]["map"])}
    assert numbered == {word: place for place, word in enumerate(re.findall(r'"(\w+)"', SWITCHES[name]["list"]))}


@pytest.mark.parametrize("file", FILES)
def test_a_lookup_by_a_switch_knows_all_its_positions(file: str) -> None:
    """One that is missing gives null, which is taken for an empty list: the pipeline is off without a word."""
    for switch, known in offered(FILES[file]):
        assert known == positions(switch), switch


def test_every_switch_is_used() -> None:
    """One that nothing looks at would do nothing."""
    assert {switch for content in FILES.values() for switch, _ in offered(content)} == set(SWITCHES)
    assert set(re.findall(r"choices\.made\.(\w+)", EVERYTHING)) == set(SWITCHES)


def test_the_page_leads_to_blocks_that_are_there() -> None:
    """Each hop names a file and the components in it."""
    for row in table("Stages"):
        file, *components = words(row["File and block"])
        there = {f"{kind}.{label}" for kind, label in COMPONENT.findall(FILES[file])}
        assert set(components) <= there, row["Stage"]


def test_every_component_feeds_another_or_is_fed() -> None:
    """One that nothing mentions is a dead block."""
    ends = {"otelcol.receiver", "loki.source", "faro.receiver", "prometheus.scrape"}
    ends |= {"pyroscope.receive_http", "pyroscope.scrape"}
    for kind, label in COMPONENT.findall(EVERYTHING):
        if not any(kind.startswith(end) for end in ends):
            assert re.search(rf"[\[ (,\t]{re.escape(kind)}\.{label}\.\w+", EVERYTHING), f"{kind}.{label}"


@pytest.mark.parametrize("name", ENDPOINT_FILES)
def test_the_files_of_endpoints_have_what_alloy_asks_for(name: str) -> None:
    """All that is read, and nothing that is not, but for what configurations of the original read."""
    asked = re.findall(r'from_json\(local\.file\.endpoints\.content\)((?:\["\w+"\])+)', EVERYTHING)
    paths = {tuple(re.findall(r'"(\w+)"', path)) for path in asked}
    assert paths == set(_paths(endpoints(name))) - READ_ELSEWHERE


def _paths(tree: dict[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for key, value in tree.items():
        found += _paths(value, (*above, key)) if isinstance(value, dict) else [(*above, key)]
    return found


def test_no_credentials_are_in_the_files_of_endpoints() -> None:
    """They come from the environment; what configurations of the original look for is there, and empty."""
    local = endpoints("endpoints.json")
    assert {path for path in READ_ELSEWHERE if reduce(getitem, path, local)} == set()
    kept = {path for path in _paths(local) if re.search("user|password|token|key", path[-1], re.IGNORECASE)}
    assert kept == READ_ELSEWHERE
    assert not re.search("user|password|token|key", json.dumps(endpoints("endpoints-cloud.json")), re.IGNORECASE)


def test_back_ends_that_are_scraped_are_those_that_are_written_to() -> None:
    """By the same host; Grafana, which is not written to, comes on top. The cloud's are not ours to scrape."""
    local = endpoints("endpoints.json")
    hosts = {re.split(r"[:/]+", local[signal]["url"])[1] for signal in ("metrics", "logs", "traces", "profiles")}
    assert {target["service"] for target in local["backends"]} == hosts | {"grafana"}
    assert all(target["__address__"].startswith(f"{target['service']}:") for target in local["backends"])
    assert all(target["group"] == "infrastructure" for target in local["backends"])
    assert endpoints("endpoints-cloud.json")["backends"] == []


def test_the_services_are_found_at_their_own_ports() -> None:
    """Each has one port, under its own name."""
    for service in SERVICES:
        assert set(re.findall(rf'"({service.name}:\d+)"', EVERYTHING)) == {f"{service.name}:{service.port}"}


def test_the_metrics_of_a_service_are_scraped_or_received_but_not_both() -> None:
    """With ALLOY_APPLICATION_METRICS=scrape, what the services push is dropped; otherwise it would be stored twice."""
    scraped = set(re.findall(r'"group" = "mythical", "service" = "([\w-]+)"', FILES["metrics.alloy"]))
    (dropped,) = re.findall(r'"scrape" = \[`IsMatch\(resource\.attributes\["service\.name"\], "(.+)"\)`\]', EVERYTHING)
    assert {service.name for service in SERVICES} == scraped
    assert [name for name in scraped if not re.fullmatch(dropped, name)] == []


def test_every_file_begins_with_what_it_is_for() -> None:
    """In words, before the first block."""
    for name, content in FILES.items():
        assert content.startswith("// "), name
