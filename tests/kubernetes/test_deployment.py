"""The suite in a cluster: it starts, every signal of every service arrives, and Alloy has only the rights it needs."""

import os
import subprocess
import sys
from contextlib import ExitStack

import pytest

from tests.kubernetes.cluster import APPLICATION, PART_OF, ROOT, STACK, Cluster, deploy, eventually, fetch
from tests.stack.backends import Backends

BACKENDS = {"tempo": 3200, "loki": 3100, "mimir": 9009, "pyroscope": 4040}
ALLOY = "system:serviceaccount:monitoring-stack:alloy"
EXAMPLE = ROOT / "kubernetes/manifests/example-instrumented-app.yaml"


def test_a_second_deployment_changes_nothing(cluster: Cluster) -> None:
    """The script may run again after a failure: no pod restarts."""
    overlay = os.environ.get("OVERLAY", "local")
    if overlay == "none":
        pytest.skip("OVERLAY=none: not deployed by the script")

    def generations() -> dict[str, int]:
        found = [one for name in (APPLICATION, STACK) for one in cluster.get(name, "deployments,statefulsets")]
        return {one["metadata"]["name"]: one["metadata"]["generation"] for one in found}

    before = generations()
    result = deploy(cluster.context, "--overlay", overlay)
    assert result.returncode == 0, result.stderr
    assert generations() == before


def test_every_pod_is_ready_and_admitted_as_restricted(cluster: Cluster) -> None:
    """The namespaces enforce the profile, so a pod that violates it would be missing."""
    for namespace in (APPLICATION, STACK):
        (found,) = cluster.get("default", f"namespace/{namespace}")
        assert found["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
        for workload in cluster.get(namespace, "deployments,statefulsets", "-l", PART_OF):
            assert workload["status"].get("readyReplicas", 0) == workload["spec"]["replicas"], workload["metadata"][
                "name"
            ]


@pytest.mark.parametrize("overlay", ["local", "scale"])
def test_the_api_server_accepts_each_overlay_without_a_warning(cluster: Cluster, overlay: str) -> None:
    """Unknown fields, and pods that the profile "restricted" would reject, are warnings of a dry run."""
    result = cluster.run("apply", "-k", str(ROOT / "kubernetes/overlays" / overlay), "--dry-run=server")
    assert "Warning" not in result.stderr


@pytest.mark.parametrize(
    ("verb", "resource", "allowed"),
    [
        ("list", "pods", True),
        ("watch", "nodes", True),
        ("get", "pods/log", True),
        ("list", "replicasets.apps", True),
        ("get", "nodes/metrics", True),
        ("get", "secrets", False),
        ("list", "configmaps", False),
        ("create", "pods", False),
        ("create", "pods/exec", False),
        ("delete", "pods", False),
        ("get", "nodes/proxy", False),
        ("create", "serviceaccounts/token", False),
    ],
)
def test_alloy_may_read_only_what_it_collects(cluster: Cluster, verb: str, resource: str, allowed: bool) -> None:
    """It has no access to secrets and to commands in pods."""
    # With a slash, kubectl would interpret the rest as the name of an object.
    kind, _, part = resource.partition("/")
    result = cluster.run(
        *("auth", "can-i", verb, kind, f"--subresource={part}", "--all-namespaces", f"--as={ALLOY}"), check=False
    )
    assert (result.stdout.strip() == "yes") is allowed


def test_alloy_collects_from_pods_and_kubelets(cluster: Cluster) -> None:
    """Alloy's counters show that log lines and spans are forwarded."""

    def sums() -> dict[str, float]:
        text = fetch(port, "/metrics")
        names = ("loki_write_sent_entries_total", "otelcol_receiver_accepted_spans_total")
        return {
            name: sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))
            for name in names
        }

    with cluster.forward(STACK, "svc/alloy", 12345) as port:
        eventually(lambda: all(sums().values()), "log line and span")


@pytest.mark.usefixtures("backends")
def test_every_signal_of_every_service_arrives(cluster: Cluster) -> None:
    """The queries are those for the stack of compose, except for the metrics of its host."""
    with ExitStack() as forwards:
        ports = {
            f"{name.upper()}_PORT": str(forwards.enter_context(cluster.forward(STACK, f"svc/{name}", port)))
            for name, port in BACKENDS.items()
        }
        command = [sys.executable, "-m", "pytest", "-q", "tests/stack/test_stack_signals.py", "-k", "not node_"]
        result = subprocess.run(command, cwd=ROOT, env=os.environ | ports, capture_output=True, text=True, check=False)  # noqa: S603
    assert result.returncode == 0, result.stdout[-3000:]
    assert "skipped" not in result.stdout.splitlines()[-1]


@pytest.mark.usefixtures("backends")
def test_the_example_is_discovered_by_its_annotations(cluster: Cluster) -> None:
    """Metrics, a log line, a trace and a profile arrive of an application with only annotations and two variables."""
    cluster.run("apply", "-f", str(EXAMPLE))
    try:
        cluster.rolled_out("default", "deployment/example-app")
        with ExitStack() as forwards:
            ports = {
                f"{name.upper()}_PORT": forwards.enter_context(cluster.forward(STACK, f"svc/{name}", port))
                for name, port in BACKENDS.items()
            }
            stack = Backends(ports=ports)
            app = forwards.enter_context(cluster.forward("default", "deployment/example-app", 8080))

            def after_request(found: object) -> object:
                fetch(app, "/api/users")
                return found

            eventually(
                lambda: after_request(stack.promql('example_requests_total{service="example-app"} > 0')), "metric"
            )
            eventually(lambda: after_request(stack.traceql('{resource.k8s.deployment.name="example-app"}')), "trace")
            eventually(lambda: after_request(stack.profile('{service_name="example-app"}')), "profile")
            (labels, line), *_ = eventually(
                lambda: stack.logql('{app="example-app"} |= "Request processed"'), "log line"
            )
            assert labels["namespace"] == "default"
            assert labels["level"] == "info"
            assert '"duration"' in line
            eventually(lambda: stack.trace(labels["trace_id"]), "trace of the log line")
    finally:
        cluster.run("delete", "-f", str(EXAMPLE), check=False)
