"""The real Alloy loads its files with every value of every switch."""

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
# The first run has all defaults; each further run changes all switches that have an untested value.
RUNS = [
    {one["variable"]: sorted(positions(name))[number % len(positions(name))] for name, one in SWITCHES.items()}
    for number in range(max(len(positions(name)) for name in SWITCHES))
]


def all_healthy(running_alloy: Alloy) -> dict[str, str]:
    """Return the state of each component once all are healthy, else an empty dict; at startup they are unknown."""
    states = {name: component["health"]["state"] for name, component in running_alloy.components().items()}
    return states if set(states.values()) == {"healthy"} else {}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_file_has_alloys_format(file: Path) -> None:
    """`alloy fmt` has nothing to change."""
    assert alloy("fmt", "-t", str(file)).returncode == 0


def test_the_folder_is_valid() -> None:
    """Every block is known, and every referenced component exists."""
    result = alloy("validate", str(FOLDER))
    assert result.returncode == 0, result.stderr


def test_the_configuration_of_a_cluster_is_valid(tmp_path: Path) -> None:
    """It consists of the folder's files without the host's metrics, and of the file for clusters."""
    for file in (*FOLDER.glob("*.alloy"), *FOLDER.glob("*.json"), CLUSTER):
        if file.name != "host.alloy":
            shutil.copy(file, tmp_path)
    result = alloy("validate", str(tmp_path))
    assert result.returncode == 0, result.stderr


def test_every_value_of_every_switch_is_in_a_run() -> None:
    """The runs below cover all values."""
    for name, switch in SWITCHES.items():
        assert {run[switch["variable"]] for run in RUNS} == positions(name)


@pytest.mark.parametrize("choices", RUNS, ids=lambda run: "-".join(run.values()))
def test_all_components_are_healthy_with_every_value(choices: dict[str, str], tmp_path: Path) -> None:
    """Alloy evaluates expressions only when it runs: `alloy validate` accepts wrong ones."""
    with running(tmp_path, environ(tmp_path, 1, 1, **choices)) as instance:
        states = eventually(lambda: all_healthy(instance), what="not all components became healthy")
        assert len(states) > 40


@pytest.mark.parametrize("variable", [switch["variable"] for switch in SWITCHES.values()])
def test_alloy_exits_with_the_name_of_the_block_for_an_unknown_value(variable: str, tmp_path: Path) -> None:
    """Otherwise a typing error would disable a pipeline without an error."""
    with pytest.raises(LocalError) as error, running(tmp_path, environ(tmp_path, 1, 1, **{variable: "perhaps"})):
        pass
    log = (tmp_path / "alloy.log").read_text(encoding="utf-8")
    assert "settings.alloy" in log, error.value
    assert variable in log


def test_the_exercise_has_its_documented_mistakes() -> None:
    """Alloy reports three of them."""
    result = alloy("validate", str(FOLDER / "exercise" / "broken" / "config.alloy"))
    assert result.returncode != 0
    for mistake in (
        'component "otelcol.processor.batches.default.input" does not exist',
        'component "otelcol.exporter.otlphttp.tempo.input" does not exist',
        'unrecognized block name "basic_auth"',
    ):
        assert mistake in result.stdout + result.stderr


def test_the_solution_of_the_exercise_is_valid() -> None:
    """The fourth mistake is fixed too: metrics have an output."""
    solution = FOLDER / "exercise" / "fixed" / "config.alloy"
    result = alloy("validate", str(solution))
    assert result.returncode == 0, result.stderr
    assert "metrics = [otelcol.exporter.prometheus.default.input]" in solution.read_text(encoding="utf-8")


# Configurations for the original read the file like this: with a path for each field, and the first match.
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


def test_a_configuration_for_the_original_finds_its_endpoints(tmp_path: Path) -> None:
    """With a missing field, Alloy would exit because the index is out of range."""
    config = tmp_path / "config.alloy"
    config.write_text(ORIGINAL.format(endpoints=FOLDER / "endpoints.json"), encoding="utf-8")
    with loaded(config, tmp_path) as instance:
        states = eventually(lambda: all_healthy(instance), what="not all components became healthy")
    assert set(states) == {"local.file.endpoints", "loki.write.lines", "otelcol.auth.headers.tempo"}
