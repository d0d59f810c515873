"""kubernetes/ matches compose, .env, the services, and the schemas of Kubernetes, and restricts each pod.

Needs kubectl, which contains Kustomize; a cluster is not needed.
"""

import base64
import os
import re
import shutil
import subprocess
from functools import cache
from typing import Any

import pytest
import yaml

from common.web.server import DRAIN_TIMEOUT_S
from tests.seams.compose_files import dotenv, environment, filled, mounts, services
from tests.seams.tree import ROOT, rows, sections, words

pytestmark = pytest.mark.skipif(not shutil.which("kubectl"), reason="kubectl is not installed")

FOLDER = ROOT / "kubernetes"
OVERLAYS = ("local", "scale", "cloud", "source")
EXAMPLE = FOLDER / "manifests/example-instrumented-app.yaml"
# Workloads whose name differs from that in compose.
COMPOSE = {"load-master": "load"}
SETTINGS = dict(sections((ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")))
KNOWN = {
    word
    for text in SETTINGS.values()
    if "| Variable |" in text
    for row in rows(text)
    for word in words(row["Variable"])
}
# The time that a shutdown takes at most after the requests in progress: see DRAIN_TIMEOUT_S.
HOOKS_S = 4.5
# Compose only: the shell's variables that are forwarded without a value, proxies, and mounts of the host.
NOT_HERE = {"NO_PROXY", "no_proxy", "ALLOY_HOST_ROOT", "ALLOY_HOST_PROC", "ALLOY_HOST_SYS"}
# Another address, a collector in another namespace, and a default with a default.
DIFFERS = {
    "MIMIR_GRAFANA",
    "FARO_URL",
    "LOAD_COLLECTOR",
    "LOAD_FARO",
    "PROFILE_COLLECTOR_HOST",
    "TRACING_COLLECTOR_HOST",
    "LOGS_TARGET",
}
# Files of a mounted folder that the program there doesn't read, and the host's metrics, which kubelets have here.
UNREAD = re.compile(r"(^|/)(kustomization\.yaml|README\.md|host\.alloy)$|^(exercise|source|kubernetes)/|\.py$")

Document = dict[str, Any]


@cache
def rendered(overlay: str) -> tuple[Document, ...]:
    """Return the documents that an overlay applies."""
    command = ["kubectl", "kustomize", str(FOLDER / "overlays" / overlay)]
    return tuple(yaml.safe_load_all(subprocess.run(command, check=True, capture_output=True, text=True).stdout))  # noqa: S603


def of_kind(overlay: str, *kinds: str) -> dict[str, Document]:
    """Return the documents of some kinds by their names."""
    return {one["metadata"]["name"]: one for one in rendered(overlay) if one["kind"] in kinds}


def workloads(overlay: str = "local") -> dict[str, Document]:
    """Return the workloads, which run pods, by name."""
    return of_kind(overlay, "Deployment", "StatefulSet")


def pod(name: str, overlay: str = "local") -> Document:
    """Return the pod of a workload."""
    spec: Document = workloads(overlay)[name]["spec"]["template"]["spec"]
    return spec


def container(name: str, overlay: str = "local") -> Document:
    """Return the one container of a workload."""
    (one,) = pod(name, overlay)["containers"]
    return dict(one)


def secret(name: str, overlay: str = "local") -> dict[str, str]:
    """Return the decoded values of a Secret."""
    data = of_kind(overlay, "Secret")[name]["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def variables(name: str, overlay: str = "local") -> dict[str, str]:
    """Return the environment of a container; references to other variables and to fields are left as they are."""
    values: dict[str, str] = {}
    for source in container(name, overlay).get("envFrom", []):
        if "configMapRef" in source:
            values |= of_kind(overlay, "ConfigMap")[source["configMapRef"]["name"]]["data"]
        elif not source["secretRef"].get("optional"):
            values |= secret(source["secretRef"]["name"], overlay)
    for one in container(name, overlay).get("env", []):
        key = one.get("valueFrom", {}).get("secretKeyRef")
        values[one["name"]] = secret(key["name"], overlay)[key["key"]] if key else one.get("value", "")
    return values


def files(name: str) -> dict[str, str]:
    """Return the files of ConfigMaps that a container mounts, by path."""
    maps = {one["metadata"]["name"]: one["data"] for one in rendered("local") if one["kind"] == "ConfigMap"}
    seen = {}
    volumes = {volume["name"]: volume for volume in pod(name)["volumes"]}
    for mount in container(name)["volumeMounts"]:
        volume = volumes.get(mount["name"], {})
        sources = volume.get("projected", {}).get("sources", [volume])
        for source in (one["configMap"] for one in sources if "configMap" in one):
            data = maps[source["name"]]
            paths = {item["key"]: item["path"] for item in source.get("items", [])} or {key: key for key in data}
            assert set(paths) == set(data), name
            for key, path in paths.items():
                seen[mount["mountPath"] + ("" if "subPath" in mount else f"/{path}")] = data[key]
    return seen


each_workload = pytest.mark.parametrize(
    "name",
    [
        *("mythical-server", "mythical-requester", "mythical-recorder", "mythical-frontend"),
        *("mythical-workshop", "load-master", "load-worker", "mythical-database", "mythical-queue", "alloy"),
        *("tempo", "loki", "mimir", "pyroscope", "grafana"),
    ],
)


def test_the_workloads_are_the_services_of_compose() -> None:
    """A service that is added to compose must be added here too."""
    assert {COMPOSE.get(name, name) for name in workloads()} == set(services())
    assert not {"tempo", "loki", "mimir", "pyroscope", "grafana"} & set(workloads("cloud"))
    assert not {"alloy"} & set(workloads("source"))


@pytest.mark.parametrize("version", ["1.32", "1.37"])
@pytest.mark.parametrize("overlay", [*OVERLAYS, "example"])
def test_each_document_has_the_schema_of_its_kind(overlay: str, version: str) -> None:
    """An unknown or misspelled field is an error, which the API server only reports as a warning."""
    schemas = pytest.importorskip("kubernetes_validate", reason="run scripts/setup python")
    documents = rendered(overlay) if overlay in OVERLAYS else yaml.safe_load_all(EXAMPLE.read_text(encoding="utf-8"))
    for one in documents:
        schemas.validate(one, version, strict=True)


@each_workload
def test_image_arguments_and_memory_are_those_of_compose(name: str) -> None:
    """The limits were tested there."""
    here, there = container(name), services()[COMPOSE.get(name, name)]
    image = filled(there["image"])
    # The images that compose builds add a program for the health check of Mimir, which a node checks over HTTP, and the
    # apps of Grafana.
    assert here["image"] == re.sub("^mythical-(mimir|grafana):", r"grafana/\1:", image)
    # Postgres writes its log to standard output here. Alloy's replicas also find each other.
    assert [str(word) for word in there.get("command", []) if not word.startswith("-clog")] == [
        word for word in here.get("args", []) if not word.startswith("--cluster.")
    ]
    assert here["resources"]["limits"] == {"memory": there["mem_limit"].replace("m", "Mi")}
    assert here["resources"]["requests"].keys() == {"cpu", "memory"}


@each_workload
def test_variables_are_those_of_compose(name: str) -> None:
    """Each value that compose sets is set here too, and the services get no variable that they don't know."""
    there = {
        key: filled(str(value))
        for key, value in environment("docker-compose.yml", COMPOSE.get(name, name)).items()
        if value is not None and key not in NOT_HERE
    }
    here = variables(name)
    for key in there.keys() - DIFFERS:
        assert re.sub(r"\$\((\w+)\)", lambda found: here[found[1]], here.get(key, "")) == there[key], key
    if name.startswith(("mythical-server", "mythical-requester", "mythical-recorder", "mythical-frontend", "load")):
        assert here.keys() - KNOWN <= {key for key in here if key.startswith("WORKSHOP_")}


@each_workload
def test_probes_check_what_the_health_check_of_compose_checks(name: str) -> None:
    """The command or path is the same; /healthz of a service succeeds while it waits for its dependencies."""
    check = " ".join(map(str, services()[COMPOSE.get(name, name)]["healthcheck"]["test"])).replace("$$", "$")
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        probe = container(name).get(kind)
        if probe is None:
            assert (name, kind) == ("load-worker", "readinessProbe")
        elif "exec" in probe:
            assert probe["exec"]["command"][-1] in check
        elif name == "load-master":
            assert probe["httpGet"] == {"path": "/", "port": "page"}
        else:
            ours = name.startswith("mythical-") and name != "mythical-workshop"
            path = "/healthz" if ours and kind != "readinessProbe" else probe["httpGet"]["path"]
            assert probe["httpGet"]["path"] == path
            assert ours or path in check or path == "/ready"


@each_workload
def test_files_are_those_that_compose_mounts(name: str) -> None:
    """A ConfigMap has each file that the program reads, with its content."""
    expected = {}
    for source, target in mounts(services()[COMPOSE.get(name, name)]):
        for path in [source] if source.is_file() else sorted(source.rglob("*")):
            inner = path.relative_to(source).as_posix()
            if path.is_file() and not UNREAD.search(inner) and "__pycache__" not in inner:
                expected[target if path == source else f"{target}/{inner}"] = path.read_text(encoding="utf-8")
    found = files(name)
    if name == "alloy":
        cluster = (FOLDER / "base/alloy/kubernetes.alloy").read_text(encoding="utf-8")
        assert found.pop("/etc/alloy/kubernetes.alloy") == cluster
    assert found == expected


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_credentials_are_those_of_dotenv(overlay: str) -> None:
    """Every namespace with a Secret has these values."""
    secrets = [
        one for one in rendered(overlay) if one["kind"] == "Secret" and "grafana-cloud" not in one["metadata"]["name"]
    ]
    for one in secrets:
        for key, value in one["data"].items():
            assert base64.b64decode(value).decode() == dotenv()[key]
    assert len(secrets) == (3 if overlay == "source" else 4)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_pod_is_restricted(overlay: str) -> None:
    """As the profile "restricted" requires, which the namespaces enforce; the root file system is read-only."""
    for name in workloads(overlay):
        spec, inner = pod(name, overlay), container(name, overlay)["securityContext"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert inner == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert spec["automountServiceAccountToken"] is (name == "alloy")
        assert spec["enableServiceLinks"] is False
    for namespace in of_kind(overlay, "Namespace").values():
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_everything_has_the_label_by_which_it_is_deleted(overlay: str) -> None:
    """deploy.sh --delete removes nothing else; volumes have it by their StatefulSet."""
    for one in rendered(overlay):
        labels = one["metadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "mythical-beasts"
        assert labels["mythical-beasts/overlay"] == overlay
        for claim in one["spec"].get("volumeClaimTemplates", []) if one["kind"] == "StatefulSet" else []:
            assert claim["metadata"]["labels"]["app.kubernetes.io/part-of"] == "mythical-beasts"


def test_the_last_applied_annotation_has_room() -> None:
    """`kubectl apply` repeats each document in an annotation, which the API server limits to 256 KiB."""
    assert max(len(yaml.safe_dump(one)) for one in rendered("local")) < 200 * 1024


def test_a_pod_with_a_wrong_configuration_is_replaced() -> None:
    """In order, a StatefulSet would wait until the pod is ready before it replaces it with the corrected one."""
    assert {one["spec"]["podManagementPolicy"] for one in of_kind("local", "StatefulSet").values()} == {"Parallel"}


@pytest.mark.parametrize("name", [f"mythical-{name}" for name in ("server", "requester", "recorder", "frontend")])
def test_a_service_has_enough_time_to_stop(name: str) -> None:
    """Otherwise the kubelet kills it with requests in progress or before it sends its last telemetry."""
    pause = container(name)["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod(name)["terminationGracePeriodSeconds"] >= pause + DRAIN_TIMEOUT_S + HOOKS_S
    assert workloads()[name]["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_services_and_policies_select_pods_and_ports_that_exist(overlay: str) -> None:
    """They are compared by label and by number; a policy for a misspelled port would block everything."""
    pods = {
        name: (one["metadata"]["namespace"], one["spec"]["template"]["metadata"]["labels"])
        for name, one in workloads(overlay).items()
    }

    def matching(namespace: str, labels: dict[str, str]) -> list[str]:
        return [name for name, (where, has) in pods.items() if where == namespace and labels.items() <= has.items()]

    for one in of_kind(overlay, "Service").values():
        spec = one["spec"]
        if spec.get("type") == "ExternalName":
            service, namespace = spec["externalName"].split(".")[:2]
            assert pods[service][0] == namespace
            continue
        (name,) = matching(one["metadata"]["namespace"], spec["selector"])
        ports = {port["name"]: port["containerPort"] for port in container(name, overlay)["ports"]}
        assert all(ports[port["targetPort"]] == port["port"] for port in spec["ports"])
    for one in of_kind(overlay, "NetworkPolicy").values():
        labels = one["spec"]["podSelector"].get("matchLabels")
        # Grafana's policy is in the base of Alloy, because it also concerns the other namespace.
        chosen = matching(one["metadata"]["namespace"], labels) if labels else []
        assert chosen or not labels or labels["app.kubernetes.io/name"] == "grafana"
        numbers = {port["containerPort"] for name in chosen for port in container(name, overlay).get("ports", [])}
        for rule in one["spec"].get("ingress", []):
            assert {port["port"] for port in rule["ports"]} <= numbers


@pytest.mark.parametrize("overlay", ["local", "scale", "cloud"])
def test_policies_let_through_what_the_variables_address(overlay: str) -> None:
    """A plugin that enforces policies would drop it, and the sender would wait for its time limit."""
    policies = [one for one in rendered(overlay) if one["kind"] == "NetworkPolicy"]
    values = {value for name in ("mythical-requester", "load-worker") for value in variables(name, overlay).values()}
    address = re.compile(r"^(?:http://)?([a-z-]+)(?:\.[\w.-]+)?:(\d+)")
    addressed = {found.groups() for found in map(address.match, values) if found}
    assert ("alloy", "12350") in addressed
    for host, port in addressed - {("localhost", "12350")}:
        open_ports = {
            entry["port"]
            for policy in policies
            if policy["spec"]["podSelector"].get("matchLabels", {}).get("app.kubernetes.io/name") == host
            for rule in policy["spec"].get("ingress", [])
            for entry in rule["ports"]
        }
        assert int(port) in open_ports, host


def test_the_values_of_the_chart_configure_the_same_alloy() -> None:
    """Permissions, ports, variables, limits, volume, and user are the same; the chart creates the rest."""
    values = yaml.safe_load((FOLDER / "helm/values.yaml").read_text(encoding="utf-8"))
    chart, here = values["alloy"], container("alloy")
    image = f"grafana/alloy:{values['image']['tag']}"
    assert image == here["image"]
    rules = [*values["rbac"]["rules"], *values["rbac"]["clusterRules"]]
    assert rules == of_kind("local", "ClusterRole")["mythical-alloy"]["rules"]
    http = {"http": chart.get("listenPort", 12345)}
    ports = {port["name"]: port["port"] for port in chart["extraPorts"]}
    assert http | ports == {port["name"]: port["containerPort"] for port in here["ports"]}
    assert {one["name"]: one.get("value", "") for one in chart["extraEnv"]} == variables("alloy")
    for name in ("resources", "lifecycle", "securityContext"):
        assert chart[name] == here[name]
    assert values["global"]["podSecurityContext"] == pod("alloy")["securityContext"]
    spec = workloads()["alloy"]["spec"]
    assert values["controller"]["replicas"] == spec["replicas"]
    (claim,), (ours,) = values["controller"]["volumeClaimTemplates"], spec["volumeClaimTemplates"]
    assert claim["spec"] == ours["spec"]
    arguments = {f"--storage.path={chart['storagePath']}", "--disable-reporting", "--cluster.enabled=true"}
    assert arguments <= set(here["args"])


@pytest.mark.skipif(
    not (shutil.which("helm") and os.environ.get("ALLOY_CHART")),
    reason="set ALLOY_CHART to the folder of the chart grafana/alloy, and install helm",
)
def test_the_chart_renders_the_same_alloy() -> None:
    """With the values, the official chart creates the container, the permissions, and the Services of the manifests."""
    values = str(FOLDER / "helm/values.yaml")
    # Without a cluster, helm may assume a version of Kubernetes that has other versions of objects.
    command = [
        "helm",
        "template",
        "alloy",
        os.environ["ALLOY_CHART"],
        "--namespace=monitoring-stack",
        "--values",
        values,
    ]
    command.append("--kube-version=1.32.0")
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603
    chart = {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(output) if one}
    spec, ours = chart["StatefulSet", "alloy"]["spec"], workloads()["alloy"]["spec"]
    (there,), here = spec["template"]["spec"]["containers"], container("alloy")
    for name in ("resources", "lifecycle", "securityContext"):
        assert there[name] == here[name]
    assert there["image"] == f"docker.io/{here['image']}"
    assert {argument.removesuffix("/.") for argument in there["args"]} >= set(here["args"])
    assert [(one["metadata"], one["spec"]) for one in spec["volumeClaimTemplates"]] == [
        ({"name": one["metadata"]["name"]}, one["spec"]) for one in ours["volumeClaimTemplates"]
    ]
    assert spec["template"]["spec"]["securityContext"] == ours["template"]["spec"]["securityContext"]
    assert {one["name"]: one.get("value", "") for one in there["env"]}.items() >= variables("alloy").items()
    assert {one["mountPath"] for one in there["volumeMounts"]} == {one["mountPath"] for one in here["volumeMounts"]}
    assert {one["containerPort"] for one in there["ports"]} == {one["containerPort"] for one in here["ports"]}
    assert chart["ClusterRole", "alloy"]["rules"] == of_kind("local", "ClusterRole")["mythical-alloy"]["rules"]
    assert chart["PodDisruptionBudget", "alloy"]["apiVersion"] == "policy/v1"
    # Every Service of the manifests in the namespace, with its ports, except those of the backends.
    for name in ("alloy", "alloy-cluster", "mythical-database", "mythical-queue"):
        (wanted,) = (
            one["spec"]
            for one in rendered("local")
            if (one["kind"], one["metadata"]["name"]) == ("Service", name)
            and one["metadata"]["namespace"] == "monitoring-stack"
        )
        found = chart["Service", name]["spec"]
        assert found.get("externalName") == wanted.get("externalName")
        assert {one["port"] for one in found.get("ports", ())} >= {one["port"] for one in wanted.get("ports", ())}
