"""The commands of the workshop's step about Kubernetes, run in the cluster of CONTEXT."""

from pathlib import Path

import pytest

from local.ports import free_port
from tests.kubernetes.cluster import Cluster
from tests.workshop.pages import Page, pages, typed
from tests.workshop.shell import needs_jq, shell

# Local ports that the page forwards.
FORWARDED = ("18080", "12352")
STEPS = [page for page in pages() if page.of("cluster")]


@needs_jq
@pytest.mark.parametrize("step", STEPS, ids=lambda page: page.name)
def test_each_command_in_the_cluster_prints_the_pages_output(step: Page, cluster: Cluster, tmp_path: Path) -> None:
    """The kubeconfig's current context is the configured one, as for a learner."""
    config = tmp_path / "kubeconfig"
    config.write_text(cluster.run("config", "view", "--minify", "--flatten", "--raw").stdout, encoding="utf-8")
    with shell(tmp_path / "checkout", {usual: free_port() for usual in FORWARDED}, KUBECONFIG=str(config)) as terminal:
        for block in typed(step, "cluster"):
            terminal.run(block)
