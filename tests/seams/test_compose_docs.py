"""docs/compose.md agrees with the compose files."""

import re

from tests.seams.compose_files import LAYERS, dotenv, layer_file, published, services, text
from tests.seams.tree import rows, sections, words

PAGE = text("docs/compose.md")
SECTIONS = dict(sections(PAGE))


def test_the_table_has_every_container_and_its_limit() -> None:
    """It has no others, and the measured memory is below the limit."""
    table = {words(row["container"])[0]: row for row in rows(SECTIONS["Containers"])}
    assert set(table) == set(services())
    for name, row in table.items():
        limit = int(services()[name]["mem_limit"].removesuffix("m"))
        assert row["limit"] == f"{limit} MiB"
        if held := re.match(r"\d+", row["memory"]):
            assert int(held[0]) < 0.8 * limit, f"{name} needs more memory"


def test_every_published_port_is_documented() -> None:
    """Its number is the one in .env."""
    documented = set(re.findall(r"127\.0\.0\.1:(\d+)", SECTIONS["URLs and ports"]))
    numbers = {dotenv()[outside[2:].split(":")[0]] for it in services().values() for _, outside, _ in published(it)}
    assert numbers - documented == {dotenv()["QUEUE_PORT"]}
    assert documented <= numbers


def test_the_page_lists_every_layer() -> None:
    """It lists no other files."""
    table = {words(row["file"])[0] for row in rows(SECTIONS["Override files"])}
    assert table == {layer_file(layer) for layer in LAYERS}


def test_every_credential_of_the_cloud_layer_is_explained() -> None:
    """The error message for a missing one refers to this page."""
    for variable in re.findall(r"\$\{(GRAFANA_CLOUD_\w+):\?", text("docker-compose-cloud.yml")):
        assert f"{variable}=" in PAGE
