"""Fixtures of the cluster with the suite; tests are skipped without one."""

import os

import pytest

from tests.kubernetes.cluster import STACK, Cluster, deploy


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """Deploy the overlay OVERLAY (local) to the cluster of CONTEXT; with OVERLAY=none, use what is deployed."""
    context = os.environ.get("CONTEXT", "")
    if not context:
        pytest.skip("no cluster is set: CONTEXT=kind-kind make test-kubernetes")
    overlay = os.environ.get("OVERLAY", "local")
    if overlay != "none":
        result = deploy(context, "--overlay", overlay)
        assert result.returncode == 0, result.stderr
    return Cluster(context)


@pytest.fixture(scope="session")
def backends(cluster: Cluster) -> None:
    """Skip where the overlay has no backends."""
    if cluster.run("get", "-n", STACK, "statefulset", "mimir", check=False).returncode:
        pytest.skip("the overlay has no backends")
