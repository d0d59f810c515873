"""The real Alloy reads its files, in every position of every switch."""

import shutil
from pathlib import Path

import pytest

from local.errors import LocalError
from tests.integration.running import eventually
from tests.seams.test_alloy_settings import SWITCHES, positions
from tests.seams.tree import ROOT
from tests.stack.alloy_running import FOLDER, Alloy, alloy, environ, loaded, needs_alloy, running

pytestmark = needs_alloy

CLUSTER = ROOT / "kubernetes/base/alloy/kubernetes.alloy"
FILES = [*sorted(FOLDER.rglob("*.alloy")), CLUSTER]
# The first run holds all defaults; each further one moves as many switches as have a position left.
RUNS = [
    {one["variable"]: sorted(positions(name))[number % len(positions(name))] for name, one in SWITCHES.items()}
    for number in range(max(len(positions(name)) for name in SWITCHES))
]


def all_healthy(one: Alloy) -> dict[str, str]:
    """Give the state of each component once all are healthy, else nothing; at the start they are unknown."""
    states = {name: component["health"]["state"] for name, component in one.components().items()}
    return states if set(states.values()) == {"healthy"} else {}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_file_is_as_alloy_formats_it(file: Path) -> None:
    """`alloy fmt` has nothing to change."""
    assert alloy("fmt", "-t", str(file)).returncode == 0


def test_the_folder_is_valid() -> None:
    """Every block is known, and every component that is named is there."""
    said = alloy("validate", str(FOLDER))
    assert said.returncode == 0, said.stderr


def test_the_configuration_of_a_cluster_is_valid(tmp_path: Path) -> None:
    """The files of the folder without the host's metrics, and the one that a cluster adds."""
    for file in (*FOLDER.glob("*.alloy"), *FOLDER.glob("*.json"), CLUSTER):
        if file.name != "host.alloy":
            shutil.copy(file, tmp_path)
    said = alloy("validate", str(tmp_path))
    assert said.returncode == 0, said.stderr


def test_every_position_of_every_switch_is_in_one_of_the_runs() -> None:
    """The runs below leave none out."""
    for name, switch in SWITCHES.items():
        assert {run[switch["variable"]] for run in RUNS} == positions(name)


@pytest.mark.parametrize("choices", RUNS, ids=lambda run: "-".join(run.values()))
def test_all_components_are_healthy_in_every_position(choices: dict[str, str], tmp_path: Path) -> None:
    """Alloy evaluates expressions only when it runs: a wrong one passes `alloy validate`."""
    with running(tmp_path, environ(tmp_path, 1, 1, **choices)) as one:
        states = eventually(lambda: all_healthy(one), what="not all components became healthy")
        assert len(states) > 40


@pytest.mark.parametrize("variable", [switch["variable"] for switch in SWITCHES.values()])
def test_a_position_that_does_not_exist_ends_alloy_with_the_block_that_wants_it(variable: str, tmp_path: Path) -> None:
    """Else a slip of the pen would switch a pipeline off without a word."""
    with pytest.raises(LocalError) as told, running(tmp_path, environ(tmp_path, 1, 1, **{variable: "perhaps"})):
        pass
    log = (tmp_path / "alloy.log").read_text(encoding="utf-8")
    assert "settings.alloy" in log, told.value
    assert variable in log


def test_the_exercise_has_the_mistakes_that_it_promises() -> None:
    """Alloy names three, each at its place."""
    said = alloy("validate", str(FOLDER / "exercise" / "broken" / "config.alloy"))
    assert said.returncode != 0
    for mistake in (
        'component "otelcol.processor.batches.default.input" does not exist',
        'component "otelcol.exporter.otlphttp.tempo.input" does not exist',
        'unrecognized block name "basic_auth"',
    ):
        assert mistake in said.stdout + said.stderr


def test_the_answer_of_the_exercise_is_valid() -> None:
    """The fourth mistake is fixed in it too: metrics have an output."""
    answer = FOLDER / "exercise" / "fixed" / "config.alloy"
    said = alloy("validate", str(answer))
    assert said.returncode == 0, said.stderr
    assert "metrics = [otelcol.exporter.prometheus.default.input]" in answer.read_text(encoding="utf-8")


# As configurations of the original read the file: by a path for each field, of which the first match is taken.
ORIGINAL = """
local.file "endpoints" {{ filename = "{endpoints}" }}
loki.write "lines" {{
	endpoint {{
		url = json_path(local.file.endpoints.content, ".logs.url")[0]
		basic_auth {{
			username = json_path(local.file.endpoints.content, ".logs.basicAuth.username")[0]
			password = json_path(local.file.endpoints.content, ".logs.basicAuth.password")[0]
		}}
	}}
}}
otelcol.auth.headers "tempo" {{
	header {{
		key   = "Authorization"
		value = "Basic " + json_path(local.file.endpoints.content, ".traces.basicAuthToken")[0]
	}}
}}
"""


def test_a_configuration_that_was_written_for_the_original_finds_its_endpoints(tmp_path: Path) -> None:
    """A field that is missing ends Alloy: the index is out of range."""
    config = tmp_path / "config.alloy"
    config.write_text(ORIGINAL.format(endpoints=FOLDER / "endpoints.json"), encoding="utf-8")
    with loaded(config, tmp_path) as one:
        states = eventually(lambda: all_healthy(one), what="not all components became healthy")
    assert set(states) == {"local.file.endpoints", "loki.write.lines", "otelcol.auth.headers.tempo"}
