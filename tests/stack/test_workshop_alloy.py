"""The commands of the workshop's steps that need Alloy, run next to make demo."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local.ports import DEFAULTS, LOOPBACK, free_port
from tests.integration.conftest import servers_folder
from tests.integration.demo_run import DemoRun
from tests.integration.running import eventually
from tests.stack.alloy_running import alloy, needs_alloy
from tests.workshop.pages import FOLDER, Page, pages, typed
from tests.workshop.shell import Shell, needs_jq, shell
from tools.query import get_json

__all__ = ["servers_folder"]

pytestmark = needs_alloy

STEPS = [page for page in pages() if page.of("alloy")]
FINAL = FOLDER / "19-final.md"
CHECKPOINTS = sorted((FOLDER / "checkpoints").glob("*.alloy"))
# What the pages open in addition to the ports of the run: servers, Alloy's UI, and where it receives signals.
OPENED = ("5052", "5053", "5054", "9009", "12345", "12346", "12348", "13100", "13101", "14317", "14318", "14319")


@contextmanager
def running_demo(folder: Path, **settings: str) -> Iterator[DemoRun]:
    """Start make demo, and stop it at the end."""
    folder.mkdir(mode=0o711)
    run = DemoRun(folder, **settings)
    run.start()
    try:
        run.wait_started()
        yield run
    finally:
        run.stop()


@pytest.fixture(scope="module")
def demo(servers_folder: Path) -> Iterator[DemoRun]:
    """The demo in which all steps run."""
    with running_demo(servers_folder / "workshop-alloy") as run:
        yield run


@contextmanager
def terminal_next_to(demo: DemoRun, folder: Path, **opened: int) -> Iterator[Shell]:
    """Yield a terminal with this run's ports, and with free ones for the learner's Alloy unless `opened` has them."""
    ports = {str(usual): int(demo.environ[variable]) for _, variable, usual in DEFAULTS}
    ports |= {usual: free_port() for usual in OPENED} | opened
    # A learner reads the port from the table of make demo.
    postgres = re.search(r"^postgres +127\.0\.0\.1:(\d+)", demo.printed(), re.MULTILINE)
    assert postgres, demo.printed()
    with shell(folder / "checkout", ports, **demo.environ, POSTGRES_PORT=postgres[1]) as terminal:
        yield terminal


@needs_jq
@pytest.mark.timeout(300)
@pytest.mark.parametrize("step", STEPS, ids=lambda page: page.name)
def test_each_command_of_a_step_prints_the_pages_output(step: Page, demo: DemoRun, tmp_path: Path) -> None:
    """The steps use a real Alloy, restarted for each step."""
    with terminal_next_to(demo, tmp_path) as terminal:
        for block in typed(step, "alloy"):
            terminal.run(block)


@needs_jq
@pytest.mark.timeout(300)
def test_the_whole_suite_sends_through_the_final_configuration(servers_folder: Path, tmp_path: Path) -> None:
    """The configuration has both halves: signals of the services pass while it scrapes Alloy and Postgres."""
    grpc = free_port()
    exporter_settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{LOOPBACK}:{grpc}", "OTEL_LOGS_EXPORTER": "otlp"}
    with (
        running_demo(servers_folder / "workshop-through-alloy", **exporter_settings, DEMO_LOAD="false") as demo,
        terminal_next_to(demo, tmp_path, **{"14317": grpc}) as terminal,
    ):
        for block in typed(Page(FINAL), "alloy"):
            if block.heading != "Break it":
                terminal.run(block)
        api = f"http://{LOOPBACK}:{demo.environ['DEMO_PAGE_PORT']}/api"
        signals = eventually(lambda: signals_of_services(api), 90, "not all signals arrived")
        assert len(signals) == 9
        lines = get_json(f"{api}/logs", service="mythical-server", limit=10)
        assert {line["via"] for line in lines} == {"otlp"}


def signals_of_services(api: str) -> set[tuple[str, str]]:
    """Return each service with each signal over OTLP that arrived, once there are nine."""
    cells = get_json(f"{api}/summary")["cells"]
    found = {
        (cell["service"], cell["signal"])
        for cell in cells
        if re.fullmatch("mythical-(requester|server|recorder)", cell["service"]) and cell["signal"] != "profiles"
    }
    return found if len(found) == 9 else set()


@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda file: file.name)
def test_every_checkpoint_is_valid_and_has_alloys_format(checkpoint: Path) -> None:
    """A learner who catches up gets a file that loads."""
    assert alloy("fmt", "-t", str(checkpoint)).returncode == 0
    result = alloy("validate", str(checkpoint))
    assert result.returncode == 0, result.stderr
