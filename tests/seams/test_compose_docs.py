"""docs/compose.md says what the compose files say."""

import re

from tests.seams.compose_files import LAYERS, dotenv, layer_file, published, services, text
from tests.seams.tree import rows, sections, words

PAGE = text("docs/compose.md")
SECTIONS = dict(sections(PAGE))


def test_every_container_and_its_limit_is_in_the_table() -> None:
    """And none that is not there; what was measured is below the limit."""
    table = {words(row["container"])[0]: row for row in rows(SECTIONS["Containers"])}
    assert set(table) == set(services())
    for name, row in table.items():
        limit = int(services()[name]["mem_limit"].removesuffix("m"))
        assert row["limit"] == f"{limit} MiB"
        if held := re.match(r"\d+", row["memory"]):
            assert int(held[0]) < 0.8 * limit, f"{name} needs more room"


def test_every_published_port_is_named() -> None:
    """With the number that .env gives it."""
    told = set(re.findall(r"127\.0\.0\.1:(\d+)", SECTIONS["URLs and ports"]))
    numbers = {dotenv()[outside[2:].split(":")[0]] for it in services().values() for _, outside, _ in published(it)}
    assert numbers - told == {dotenv()["QUEUE_PORT"]}
    assert told <= numbers


def test_every_layer_has_its_line() -> None:
    """And each line its layer."""
    table = {words(row["file"])[0] for row in rows(SECTIONS["Override files"])}
    assert table == {layer_file(layer) for layer in LAYERS}


def test_every_credential_of_the_cloud_layer_is_explained() -> None:
    """The message that misses it leads to this page."""
    for variable in re.findall(r"\$\{(GRAFANA_CLOUD_\w+):\?", text("docker-compose-cloud.yml")):
        assert f"{variable}=" in PAGE
