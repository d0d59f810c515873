"""The commands of the workshop's steps for the track without Docker."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from local.ports import DEFAULTS, free_port
from tests.integration.demo_run import DemoRun
from tests.workshop.pages import INDEX, Page, pages, typed
from tests.workshop.shell import needs_jq, shell

# The pages also start the applications of step 21 and the servers of step 26.
APPLICATIONS = ("5050", "5051", "5052", "5053", "5054", "5055")
STEPS = [page for page in (Page(INDEX), *pages()) if page.of("demo")]


@pytest.fixture(scope="module")
def demo(servers_folder: Path) -> Iterator[DemoRun]:
    """The demo in which all steps run, with separate servers, because the steps leave rows and messages."""
    folder = servers_folder / "workshop"
    folder.mkdir(mode=0o711)
    run = DemoRun(folder)
    run.start()
    try:
        run.wait_started()
        yield run
    finally:
        run.stop()


@needs_jq
@pytest.mark.parametrize("step", STEPS, ids=lambda page: page.name)
def test_each_command_of_a_step_prints_the_pages_output(step: Page, demo: DemoRun, tmp_path: Path) -> None:
    """The output is the same, except for numbers and ids that the page marks as variable."""
    ports = {str(usual): int(demo.environ[variable]) for _, variable, usual in DEFAULTS}
    ports |= {usual: free_port() for usual in APPLICATIONS}
    with shell(tmp_path / "checkout", ports, **demo.environ) as terminal:
        for block in typed(step, "demo"):
            terminal.run(block)
