"""The workshop's step about Kubernetes: its commands, in the cluster of CONTEXT."""

from pathlib import Path

import pytest

from local.ports import free_port
from tests.kubernetes.cluster import Cluster
from tests.workshop.pages import Page, pages, typed
from tests.workshop.shell import needs_jq, shell

# What the page forwards to.
FORWARDED = ("18080", "12352")
STEPS = [page for page in pages() if page.of("cluster")]


@needs_jq
@pytest.mark.parametrize("step", STEPS, ids=lambda page: page.name)
def test_each_command_in_the_cluster_prints_what_the_page_shows(step: Page, cluster: Cluster, tmp_path: Path) -> None:
    """With a kubeconfig whose current context is the named one, as a learner has it."""
    config = tmp_path / "kubeconfig"
    config.write_text(cluster.run("config", "view", "--minify", "--flatten", "--raw").stdout, encoding="utf-8")
    with shell(tmp_path / "checkout", {usual: free_port() for usual in FORWARDED}, KUBECONFIG=str(config)) as terminal:
        for block in typed(step, "cluster"):
            terminal.run(block)
