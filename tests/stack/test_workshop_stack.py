"""The commands of the workshop's steps that need the stack, run on the running one."""

from pathlib import Path

import pytest

from local.ports import free_port
from tests.stack.backends import port, published_services
from tests.workshop.pages import Page, pages, typed
from tests.workshop.shell import needs_jq, shell

STEPS = [page for page in pages() if page.of("stack")]
PUBLISHED = {
    "3000": "GRAFANA_PORT",
    "3100": "LOKI_PORT",
    "3200": "TEMPO_PORT",
    "4000": "SERVER_PORT",
    "4001": "REQUESTER_PORT",
    "4002": "RECORDER_PORT",
    "4040": "PYROSCOPE_PORT",
    "4318": "OTLP_HTTP_PORT",
    "8089": "LOAD_PORT",
    "9009": "MIMIR_PORT",
    "12347": "ALLOY_PAGES_PORT",
}

# The pages also start the applications of step 21.
APPLICATIONS = ("5050", "5051")


@needs_jq
@pytest.mark.usefixtures("stack")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("step", STEPS, ids=lambda page: page.name)
def test_each_command_for_the_stack_prints_the_pages_output(step: Page, tmp_path: Path) -> None:
    """The commands use the query languages of Tempo, Loki, Mimir and Pyroscope."""
    ports = {usual: port(variable) for usual, variable in PUBLISHED.items()}
    ports |= {usual: free_port() for usual in APPLICATIONS}
    with shell(tmp_path / "checkout", ports, **published_services()) as terminal:
        for block in typed(step, "stack"):
            terminal.run(block)
