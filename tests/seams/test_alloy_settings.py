"""Alloy's files, its switches, and the page about them agree."""

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
# A lookup ends in the name of a switch, or in a custom component in the name of its argument. Its options begin with
# the brace at the same depth.
LOOKUP = re.compile(r"\}\[(?:choices\.made\.(\w+)|argument\.(\w+)\.value)\]")
ENDPOINT_FILES = ("endpoints.json", "endpoints-cloud.json")
# Not read here: configurations of the original, and of workshops about it, read credentials from the file.
READ_ELSEWHERE = {("traces", "basicAuthToken")} | {
    (signal, "basicAuth", name) for signal in ("metrics", "logs", "profiles") for name in ("username", "password")
}


def positions(switch: str) -> set[str]:
    """Return the positions that a switch has in settings.alloy."""
    return set(re.findall(r'"(\w+)"', SWITCHES[switch]["list"]))


def table(title: str) -> list[dict[str, str]]:
    """Return a table of the page."""
    return rows(PAGE[title])


def documented() -> dict[str, dict[str, str]]:
    """Return each environment variable of the page with its row."""
    return {
        words(row["Variable"])[0]: row
        for title in ("Options", "Endpoints and ports", "Grafana Cloud")
        for row in table(title)
    }


def options(content: str) -> list[tuple[str, set[str]]]:
    """Return each lookup by a switch with the keys that it has."""
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
    """Return the content of one of the two files of endpoints."""
    content = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    assert isinstance(content, dict)
    return content


def test_the_page_lists_exactly_the_variables_that_alloy_reads() -> None:
    """A variable on the page that nothing reads misleads the reader."""
    assert set(documented()) == set(READ.findall(EVERYTHING))


def test_the_page_has_the_default_of_each_variable() -> None:
    """Each variable has the same default wherever it is read."""
    for variable, default in WITH_DEFAULT.findall(EVERYTHING):
        assert words(documented()[variable]["Default"]) == [default], variable


def test_the_page_lists_the_positions_of_each_switch() -> None:
    """The page lists all positions of a switch and no others."""
    assert {row["Variable"].strip("`") for row in table("Options")} == {one["variable"] for one in SWITCHES.values()}
    for name, switch in SWITCHES.items():
        assert set(words(documented()[switch["variable"]]["Values"])) == positions(name)


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_maps_its_positions_in_the_order_of_its_list(name: str) -> None:
    """The map has the index of each word in the list; in another order, `on` would mean `off`."""
    numbered = {word: int(number) for word, number in re.findall(r'"(\w+)" = (\d+)', SWITCHES[name]["map"])}
    assert numbered == {word: place for place, word in enumerate(re.findall(r'"(\w+)"', SWITCHES[name]["list"]))}


@pytest.mark.parametrize("file", FILES)
def test_a_lookup_by_a_switch_has_all_its_positions(file: str) -> None:
    """A missing one evaluates to null, which Alloy treats as an empty list: the pipeline would be silently off."""
    for switch, keys in options(FILES[file]):
        assert keys == positions(switch), switch


def test_every_switch_is_used() -> None:
    """A switch without a lookup does nothing."""
    assert {switch for content in FILES.values() for switch, _ in options(content)} == set(SWITCHES)
    assert set(re.findall(r"choices\.made\.(\w+)", EVERYTHING)) == set(SWITCHES)


def test_the_page_names_blocks_that_exist() -> None:
    """Each stage names a file and components in it."""
    for row in table("Stages"):
        file, *components = words(row["File and block"])
        existing = {f"{kind}.{label}" for kind, label in COMPONENT.findall(FILES[file])}
        assert set(components) <= existing, row["Stage"]


def test_every_component_is_referenced_or_is_a_source() -> None:
    """A component without a reference to it is dead code."""
    sources = {"otelcol.receiver", "loki.source", "faro.receiver", "prometheus.scrape"}
    sources |= {"pyroscope.receive_http", "pyroscope.scrape"}
    for kind, label in COMPONENT.findall(EVERYTHING):
        if not any(kind.startswith(source) for source in sources):
            assert re.search(rf"[\[ (,\t]{re.escape(kind)}\.{label}\.\w+", EVERYTHING), f"{kind}.{label}"


@pytest.mark.parametrize("name", ENDPOINT_FILES)
def test_endpoint_files_have_exactly_the_keys_that_alloy_reads(name: str) -> None:
    """Except for the keys that only configurations of the original read."""
    read = re.findall(r'from_json\(local\.file\.endpoints\.content\)((?:\["\w+"\])+)', EVERYTHING)
    paths = {tuple(re.findall(r'"(\w+)"', path)) for path in read}
    assert paths == set(_paths(endpoints(name))) - READ_ELSEWHERE


def _paths(tree: dict[str, Any], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for key, value in tree.items():
        found += _paths(value, (*above, key)) if isinstance(value, dict) else [(*above, key)]
    return found


def test_endpoint_files_contain_no_credentials() -> None:
    """Credentials come from the environment; the keys that configurations of the original read exist and are empty."""
    local = endpoints("endpoints.json")
    assert {path for path in READ_ELSEWHERE if reduce(getitem, path, local)} == set()
    kept = {path for path in _paths(local) if re.search("user|password|token|key", path[-1], re.IGNORECASE)}
    assert kept == READ_ELSEWHERE
    assert not re.search("user|password|token|key", json.dumps(endpoints("endpoints-cloud.json")), re.IGNORECASE)


def test_scraped_backends_are_those_that_alloy_writes_to() -> None:
    """Each has the same host, and Grafana is scraped only. Grafana Cloud's backends are not scraped."""
    local = endpoints("endpoints.json")
    hosts = {re.split(r"[:/]+", local[signal]["url"])[1] for signal in ("metrics", "logs", "traces", "profiles")}
    assert {target["service"] for target in local["backends"]} == hosts | {"grafana"}
    assert all(target["__address__"].startswith(f"{target['service']}:") for target in local["backends"])
    assert all(target["group"] == "infrastructure" for target in local["backends"])
    assert endpoints("endpoints-cloud.json")["backends"] == []


def test_alloy_reaches_the_services_at_their_ports() -> None:
    """Each has one port, under the service's name."""
    for service in SERVICES:
        assert set(re.findall(rf'"({service.name}:\d+)"', EVERYTHING)) == {f"{service.name}:{service.port}"}


def test_metrics_of_a_service_are_either_scraped_or_received() -> None:
    """With ALLOY_APPLICATION_METRICS=scrape, pushed metrics are dropped; otherwise they would be stored twice."""
    scraped = set(re.findall(r'"group" = "mythical", "service" = "([\w-]+)"', FILES["metrics.alloy"]))
    (dropped,) = re.findall(r'"scrape" = \[`IsMatch\(resource\.attributes\["service\.name"\], "(.+)"\)`\]', EVERYTHING)
    assert {service.name for service in SERVICES} == scraped
    assert [name for name in scraped if not re.fullmatch(dropped, name)] == []


def test_every_file_begins_with_a_comment() -> None:
    """It says what the file is for, before the first block."""
    for name, content in FILES.items():
        assert content.startswith("// "), name
