"""The steps of the workshop that need Alloy, as an attendee types them, beside the run without Docker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from local.ports import DEFAULTS, free_port
from tests.integration.conftest import servers_folder
from tests.integration.demo_run import DemoRun
from tests.stack.alloy_running import alloy, needs_alloy
from tests.workshop.pages import FOLDER, Page, pages, typed
from tests.workshop.shell import needs_jq, shell

__all__ = ["servers_folder"]

pytestmark = needs_alloy

STEPS = [page for page in pages() if page.of("alloy")]
CHECKPOINTS = sorted((FOLDER / "checkpoints").glob("*.alloy"))
# What the pages open beside the ports of the run: Alloy's pages, and where it takes signals.
OPENED = ("9009", "12345", "12346", "12348", "13100", "13101", "14317", "14318", "14319")


@pytest.fixture(scope="module")
def demo(servers_folder: Path) -> Iterator[DemoRun]:
    """Give the one run in which all steps are taken."""
    folder = servers_folder / "workshop-alloy"
    folder.mkdir(mode=0o711)
    run = DemoRun(folder)
    run.start()
    try:
        run.wait_started()
        yield run
    finally:
        run.stop()


@needs_jq
@pytest.mark.timeout(300)
@pytest.mark.parametrize("step", STEPS, ids=lambda page: page.name)
def test_each_command_of_a_step_says_what_the_page_shows(step: Page, demo: DemoRun, tmp_path: Path) -> None:
    """With a real Alloy, begun anew for each step."""
    ports = {str(usual): int(demo.environ[variable]) for _, variable, usual in DEFAULTS}
    ports |= {usual: free_port() for usual in OPENED}
    with shell(tmp_path / "checkout", ports, **demo.environ) as terminal:
        for block in typed(step, "alloy"):
            terminal.run(block)


@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda file: file.name)
def test_every_checkpoint_is_as_alloy_formats_it_and_valid(checkpoint: Path) -> None:
    """Whoever catches up gets a file that loads."""
    assert alloy("fmt", "-t", str(checkpoint)).returncode == 0
    said = alloy("validate", str(checkpoint))
    assert said.returncode == 0, said.stderr
