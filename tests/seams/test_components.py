"""docs/components.md describes each part of the stack, and each of its links opens the query that the page shows."""

import json
import re
from urllib.parse import parse_qs, urlsplit

import pytest

from grafana.source.reading import boards
from tests.seams.compose_files import dotenv, published, services
from tests.seams.dashboard_metrics import FROM_OTHERS, documented, names_in, recorded
from tests.seams.explore_links import PAGE, ExploreLink, explore_links
from tests.seams.test_dashboards import SOURCES
from tests.seams.tree import sections

COMPONENTS = {heading: text for heading, text in sections(PAGE) if "\n- Address: " in text}
# Containers whose heading differs from their name without "mythical-".
HEADINGS = {"mythical-workshop": "Fault page", "mythical-database": "Postgres", "mythical-queue": "RabbitMQ"}
HEADINGS["load-worker"] = "Load"
each_link = pytest.mark.parametrize("link", list(explore_links()), ids=str)


def test_each_container_has_its_section() -> None:
    """No section is about a container that was removed."""
    expected = {HEADINGS.get(name, name.removeprefix("mythical-").capitalize()) for name in services()}
    assert set(COMPONENTS) == expected


def test_each_section_has_a_link_into_explore() -> None:
    """Except for the fault page, which has no telemetry."""
    assert {link.component for link in explore_links()} == set(COMPONENTS) - {"Fault page"}


@each_link
def test_a_deep_link_opens_the_query_that_the_page_shows(link: ExploreLink) -> None:
    """After a change of the query, copy the expected address from the failure of this test."""
    assert link.address == link.expected_address


@each_link
def test_a_deep_link_has_one_pane_of_a_provisioned_data_source(link: ExploreLink) -> None:
    """Explore opens an empty page for invalid JSON or an unknown uid."""
    (pane,) = json.loads(parse_qs(urlsplit(link.address).query)["panes"][0]).values()
    (query,) = pane["queries"]
    assert SOURCES[pane["datasource"]] == query["datasource"]["type"]
    assert pane["range"] == {"from": "now-15m", "to": "now"}


@each_link
def test_the_metrics_of_a_deep_link_exist(link: ExploreLink) -> None:
    """A service emits them according to the reference, or another program was seen to emit them."""
    if link.language == "PromQL":
        assert names_in(link.text) <= documented() | FROM_OTHERS | recorded()


def test_each_dashboard_link_has_the_title_of_its_dashboard() -> None:
    """Each dashboard has a link."""
    titles = {board["uid"]: board["title"] for board in boards().values()}
    linked = dict(
        reversed(pair)
        for pair in re.findall(rf"\[([^\]]+)\]\(http://127\.0\.0\.1:{dotenv()['GRAFANA_PORT']}/d/([^)]+)\)", PAGE)
    )
    assert linked == titles


@pytest.mark.parametrize("component", COMPONENTS)
def test_an_address_is_a_published_port_of_the_container(component: str) -> None:
    """Its number is the one in .env."""
    containers = [
        it
        for name, it in services().items()
        if HEADINGS.get(name, name.removeprefix("mythical-").capitalize()) == component
    ]
    ports = {dotenv()[outside[2:].split(":")[0]] for it in containers for _, outside, _ in published(it)}
    line = re.search(r"^- Address: .*$", COMPONENTS[component], re.MULTILINE)
    assert line
    addresses = set(re.findall(r"127\.0\.0\.1:(\d+)", line[0]))
    assert addresses
    assert addresses <= ports
