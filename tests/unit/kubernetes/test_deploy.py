"""kubernetes/deploy.sh reports what prevents a deployment, with a remedy, before it changes anything.

A script replaces kubectl; tests/kubernetes runs the real one against a cluster.
"""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "kubernetes/deploy.sh"

# Responses of a healthy cluster; FAKE_* replaces one of them. The script logs each call.
KUBECTL = r"""#!/bin/bash
echo "$*" >>"$CALLS"
case "$*" in
  "config current-context") echo "${FAKE_CURRENT-kind-test}"; [ -n "${FAKE_CURRENT-x}" ] ;;
  "config get-contexts -o name") printf 'kind-test\nprod\n' ;;
  *"get --raw /version") [ -z "$FAKE_UNREACHABLE" ] || { echo "connection refused" >&2; exit 1; }
    printf '{\n  "major": "1",\n  "minor": "%s"\n}' "${FAKE_MINOR-36}" ;;
  kustomize*) sed "s/  minReplicas: 1/  minReplicas: ${FAKE_AUTOSCALER-3}/" "$RENDERED" ;;
  *" --dry-run=server") echo "namespace/mythical unchanged (server dry run)"
    [ -z "$FAKE_REJECTED" ] || { echo "$FAKE_REJECTED" >&2; exit 1; } ;;
  *" apply "*) [ -z "$FAKE_FAILED" ] || { echo "quota exceeded" >&2; exit 1; } ;;
  *"api-resources "*) [ -z "$FAKE_NO_LIST" ] || exit 1
    printf 'pods\nevents.events.k8s.io\ningresses.networking.k8s.io\n' ;;
  *"get -n mythical pods,ingresses.networking.k8s.io "*) echo "serviceaccount/default"; echo "$FAKE_LEFT" ;;
  *"get namespace mythical"*) printf '%s' "$FAKE_NAMESPACE" ;;
  *"auth can-i create $FAKE_FORBIDDEN "*) exit 1 ;;
  *"get storageclass"*) echo "${FAKE_CLASS-true}" ;;
  *"get nodes"*allocatable*) echo "${FAKE_NODES-4/8000000Ki}" ;;
  *"get pods --all-namespaces"*) echo "$FAKE_PODS" ;;
  *"get nodes"*images*) echo "${FAKE_IMAGES-[\"docker.io/library/mythical-beasts:0.1.0\"]}" ;;
esac
"""

RENDERED = """apiVersion: v1
kind: Namespace
metadata:
  name: mythical
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: mythical-server
spec:
  template:
    spec:
      containers:
      - image: mythical-beasts:0.1.0
        resources:
          limits:
            memory: 4Gi
          requests:
            cpu: 500m
            memory: 1Gi
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata:
  name: server
spec:
  maxReplicas: 12
  minReplicas: 1
  scaleTargetRef:
    apiVersion: apps/v1
    kind: Deployment
    name: mythical-server
"""

REJECTED = 'for: "overlay": error when patching "overlay": StatefulSet.apps "loki" is invalid: spec: Forbidden: updates'
CHANGES = (" apply ", " delete ", " label ")


class Cluster:
    """A folder with the script and the log of its calls."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "kubectl").write_text(KUBECTL, encoding="utf-8")
        (folder / "kubectl").chmod(0o755)
        (folder / "rendered").write_text(RENDERED, encoding="utf-8")

    def deploy(self, *arguments: str, **responses: str) -> subprocess.CompletedProcess[str]:
        """Run deploy.sh with these responses of the cluster."""
        environment = {
            "PATH": f"{self._folder}:{os.environ['PATH']}",
            "CALLS": str(self._folder / "calls"),
            "RENDERED": str(self._folder / "rendered"),
            "FAKE_FORBIDDEN": "nothing",
        }
        return subprocess.run(  # noqa: S603
            [DEPLOY, *arguments],
            env=environment | responses,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def changes(self) -> list[str]:
        """Return the calls that changed something."""
        calls = self._folder / "calls"
        lines = calls.read_text(encoding="utf-8").splitlines() if calls.exists() else []
        return [line for line in lines if any(change in line for change in CHANGES) and "--dry-run" not in line]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """Return a healthy cluster."""
    return Cluster(tmp_path)


NAMED = ("--context", "kind-test")


@pytest.mark.parametrize(
    ("arguments", "responses", "cause"),
    [
        ((), {}, "the cluster is not named; to use the current one, add: --context kind-test"),
        ((), {"FAKE_CURRENT": ""}, "no context is set; create a cluster"),
        (("--context", "other"), {}, "there is no context other; known: kind-test prod"),
        (NAMED, {"FAKE_UNREACHABLE": "1"}, "the cluster of kind-test does not answer (connection refused); start it"),
        (NAMED, {"FAKE_MINOR": "28"}, "the cluster has Kubernetes 1.28, which does not know preStop.sleep; upgrade"),
        (
            NAMED,
            {"FAKE_NAMESPACE": "Active mythical  "},
            "the namespace mythical exists and is not of this suite; rename",
        ),
        (
            NAMED,
            {"FAKE_NAMESPACE": "Active mythical mythical-beasts scale"},
            "the overlay scale is deployed; remove it first: kubernetes/deploy.sh --context kind-test --delete",
        ),
        (
            NAMED,
            {"FAKE_NAMESPACE": "Terminating mythical mythical-beasts "},
            "the namespace mythical is being deleted; wait until it is gone: kubectl --context kind-test get namespace",
        ),
        (NAMED, {"FAKE_FORBIDDEN": "deployment.apps"}, "RBAC does not allow the user of kind-test to create deploy"),
        (NAMED, {"FAKE_CLASS": ""}, "the cluster has no default storage class"),
        (NAMED, {"FAKE_NODES": "1/8000000Ki"}, "the overlay local requests 1500 m of CPU, the nodes have 1000 m free"),
        (NAMED, {"FAKE_NODES": "4/2Gi"}, "the overlay local requests 3072 MiB of memory, the nodes have 2048 MiB free"),
        (NAMED, {"FAKE_NODES": "2/8Gi", "FAKE_PODS": "-/250m/\n-//1Gi\n-/700m/1Gi"}, "the nodes have 1050 m free; add"),
        (NAMED, {"FAKE_NODES": "4/4Gi", "FAKE_PODS": "-/250m/\n-//1Gi\n-/700m/1Gi"}, "the nodes have 2048 MiB free"),
        (NAMED, {"FAKE_AUTOSCALER": "10"}, "the overlay local requests 5000 m of CPU, the nodes have 4000 m free"),
        (
            NAMED,
            {"FAKE_NAMESPACE": "Active mythical mythical-beasts local", "FAKE_REJECTED": REJECTED},
            'the cluster would reject the change (StatefulSet.apps "loki" is invalid: spec: Forbidden: updates); corre',
        ),
        (NAMED, {"FAKE_IMAGES": "[]"}, "no node has the image mythical-beasts:0.1.0; for a local cluster, add"),
        ((*NAMED, "--overlay", "big"), {}, "--overlay big does not exist; use one of: cloud local scale source"),
        ((*NAMED, "--overlay", "cloud"), {}, "kubernetes/overlays/cloud/cloud.env has placeholders; replace <metri"),
        ((*NAMED, "--overlay", "source"), {}, "overlays/source/target.env has placeholders; replace <endpoint>"),
        ((*NAMED, "--overlay"), {}, "--overlay needs a value"),
        ((*NAMED, "--images", "push"), {}, "--images push is unknown; use --images load"),
        ((*NAMED, "--timeout", "1m"), {}, "--timeout 1m is not a number of seconds"),
        ((*NAMED, "--delete-volumes"), {}, "--delete-volumes needs --delete"),
        (("--contxt", "x"), {}, "unknown option '--contxt'"),
    ],
)
def test_a_prevented_deployment_is_one_line_with_the_remedy(
    cluster: Cluster, arguments: tuple[str, ...], responses: dict[str, str], cause: str
) -> None:
    """The cluster is not changed."""
    result = cluster.deploy(*arguments, **responses)
    assert result.returncode == 2
    assert result.stderr.startswith("kubernetes/deploy.sh: ")
    assert len(result.stderr.splitlines()) == 1
    assert cause in result.stderr
    assert cluster.changes == []


def test_without_kubectl_the_message_says_what_to_install(tmp_path: Path) -> None:
    """This is checked first."""
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    result = subprocess.run(  # noqa: S603
        [DEPLOY, *NAMED], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert "kubectl is not installed; install it" in result.stderr


def test_a_second_deployment_applies_the_same(cluster: Cluster) -> None:
    """A namespace of this overlay, or one with the volumes of an earlier deployment, does not prevent a deployment."""
    for namespace in ("", "Active mythical mythical-beasts local", "Active mythical mythical-beasts "):
        result = cluster.deploy(*NAMED, FAKE_NAMESPACE=namespace)
        assert result.returncode == 0, result.stderr
        assert "all pods are ready" in result.stdout
    assert cluster.changes == ["--context kind-test apply -k kubernetes/overlays/local"] * 3


def test_delete_keeps_namespaces_of_others(cluster: Cluster) -> None:
    """A namespace without the label of this suite was not created by the script."""
    assert cluster.deploy(*NAMED, "--delete", FAKE_NAMESPACE="").returncode == 0
    assert cluster.changes == [
        "--context kind-test delete clusterroles,clusterrolebindings -l app.kubernetes.io/part-of=mythical-beasts "
        "--ignore-not-found"
    ]


def test_a_deployment_that_fails_midway_can_be_repeated(cluster: Cluster) -> None:
    """The last line says so; kubectl's own message is before it."""
    result = cluster.deploy(*NAMED, FAKE_FAILED="1")
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        "quota exceeded",
        "kubernetes/deploy.sh: the deployment is not complete; after a correction, run the same command again",
    ]


@pytest.mark.parametrize(
    ("arguments", "responses", "last"),
    [
        ((), {}, "delete namespace mythical --wait"),
        (("--delete-volumes",), {}, "delete namespace mythical --wait"),
        ((), {"FAKE_LEFT": "ingress.networking.k8s.io/theirs"}, "label namespace mythical mythical-beasts/overlay-"),
        ((), {"FAKE_NO_LIST": "1"}, "label namespace mythical mythical-beasts/overlay-"),
    ],
)
def test_delete_removes_by_label_and_keeps_what_others_made(
    cluster: Cluster, arguments: tuple[str, ...], responses: dict[str, str], last: str
) -> None:
    """Volumes are removed only on request; a namespace with any other object stays."""
    result = cluster.deploy(*NAMED, "--delete", *arguments, FAKE_NAMESPACE="mythical-beasts", **responses)
    assert result.returncode == 0, result.stderr
    ours = [change for change in cluster.changes if " -n mythical " in change or change.endswith(last)]
    assert all("-l app.kubernetes.io/part-of=mythical-beasts" in change for change in ours[:-1])
    assert any("persistentvolumeclaims" in change for change in ours) is bool(arguments)
    assert ours[-1].endswith(last)
    for name in responses.values():
        assert "the namespace mythical stays" in result.stdout, name
