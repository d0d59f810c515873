"""The doctor in a cluster: it passes while all signals arrive, and names what is broken on purpose."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.kubernetes.cluster import APPLICATION, ROOT, Cluster, eventually

BINDING = "clusterrolebinding/mythical-alloy"


def doctor(cluster: Cluster) -> dict[str, Any]:
    """Return the doctor's report."""
    command = [sys.executable, "-m", "doctor", "--json", "--context", cluster.context]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    assert result.returncode in (0, 1), result.stderr
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def broken(cluster: Cluster) -> dict[str, str]:
    """Return what is broken, by its name."""
    return {each["what"]: each["said"] for each in doctor(cluster)["findings"] if each["state"] == "broken"}


@contextmanager
def recorder_without_replicas(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """Scale the recorder to 0."""
    cluster.run("scale", "-n", APPLICATION, "deployment/mythical-recorder", "--replicas=0")
    try:
        yield "deployment/mythical-recorder", "has 0 replicas"
    finally:
        cluster.run("scale", "-n", APPLICATION, "deployment/mythical-recorder", "--replicas=1")
        cluster.rolled_out(APPLICATION, "deployment/mythical-recorder")


@contextmanager
def missing_image(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """Set an image that no node has; the old pod stays ready."""
    workload = "deployment/mythical-workshop"
    cluster.run("set", "image", "-n", APPLICATION, workload, "*=mythical-beasts:missing")
    try:
        yield "pod/mythical-workshop-", "does not have the image mythical-beasts:missing"
    finally:
        cluster.run("rollout", "undo", "-n", APPLICATION, workload)
        cluster.rolled_out(APPLICATION, workload)


@contextmanager
def service_without_pods(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """Change the selector of a Service."""

    def select(name: str) -> None:
        patch = json.dumps({"spec": {"selector": {"app.kubernetes.io/name": name}}})
        cluster.run("patch", "-n", APPLICATION, "service/mythical-frontend", "-p", patch)

    select("other")
    try:
        yield "service/mythical-frontend", "has no endpoints: no pod has the labels app.kubernetes.io/name=other"
    finally:
        select("mythical-frontend")


@contextmanager
def alloy_without_permissions(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """Remove the binding of Alloy's ClusterRole."""
    saved = cluster.run("get", BINDING, "-o", "json").stdout
    cluster.run("delete", BINDING)
    try:
        yield "permissions of alloy", "it may not"
    finally:
        cluster.run("create", "-f", "-", given=saved)


@pytest.mark.usefixtures("backends")
def test_all_checks_pass_while_all_signals_arrive(cluster: Cluster) -> None:
    """No finding is broken, and every signal of every service is fresh."""
    report = eventually(lambda: (found := doctor(cluster))["status"] == 0 and found, "report without a problem")
    assert {cell["state"] for cell in report["cells"]} == {"fresh"}


@pytest.mark.parametrize(
    "fault", [recorder_without_replicas, missing_image, service_without_pods, alloy_without_permissions]
)
def test_what_is_broken_is_named(cluster: Cluster, fault: Callable[[Cluster], Any]) -> None:
    """The report names the object and the reason, and no longer does once it is restored."""
    with fault(cluster) as (name, said):

        def named() -> dict[str, str]:
            return {what: why for what, why in broken(cluster).items() if what.startswith(name) and said in why}

        found = eventually(named, f"{name}: {said}")
    print(f"broken on purpose: {found}")  # noqa: T201
    eventually(lambda: not named(), f"report without {name}")
