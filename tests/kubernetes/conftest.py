"""A cluster with the suite, or the reason why there is none."""

import os

import pytest

from tests.kubernetes.cluster import STACK, Cluster, deploy


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """Deploy the overlay OVERLAY (local) to the cluster of CONTEXT; with OVERLAY=none, use what is deployed."""
    context = os.environ.get("CONTEXT", "")
    if not context:
        pytest.skip("no cluster is named: CONTEXT=kind-kind make test-kubernetes")
    overlay = os.environ.get("OVERLAY", "local")
    if overlay != "none":
        done = deploy(context, "--overlay", overlay)
        assert done.returncode == 0, done.stderr
    return Cluster(context)


@pytest.fixture(scope="session")
def backends(cluster: Cluster) -> None:
    """Skip where the overlay has no backends."""
    if cluster.run("get", "-n", STACK, "statefulset", "mimir", check=False).returncode:
        pytest.skip("the overlay has no backends")
