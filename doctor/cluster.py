"""A Kubernetes cluster, as kubectl reports it: the objects of a namespace, permissions, and forwarded ports."""

import json
import re
import select
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

from doctor.env_files import ROOT
from doctor.report import Unusable

# Secrets are not among them.
KINDS = "deployments,statefulsets,pods,services,endpointslices,configmaps,events"
TIMEOUT_S = 60.0
FORWARD_S = 10.0

Object = dict[str, Any]


class NoCluster(Exception):
    """The cluster does not answer, or rejects a request; the text is the last line of kubectl's errors."""


class Pod(NamedTuple):
    """A pod and one of its ports."""

    namespace: str
    name: str
    port: int


@dataclass(frozen=True)
class Cluster:
    """The cluster of a context of kubectl."""

    context: str

    @classmethod
    def named(cls, context: str) -> "Cluster":
        """Return the cluster of a context. Raises Unusable without kubectl, or if it does not know the context."""
        if not shutil.which("kubectl"):
            raise Unusable("kubectl is not installed; install it: https://kubernetes.io/docs/tasks/tools")
        listed = subprocess.run(
            ["kubectl", "config", "get-contexts", "-o", "name"],  # noqa: S607
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
        known = listed.stdout.split()
        if context not in known:
            raise Unusable(f"the context {context!r} does not exist; use one of: {' '.join(known) or 'none'}")
        return cls(context)

    def command(self, *arguments: str) -> str:
        """Return a command of kubectl for the user."""
        return " ".join(["kubectl", "--context", self.context, *arguments])

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run kubectl, and return its output and errors."""
        command = ["kubectl", "--context", self.context, "--request-timeout=10s", *arguments]
        try:
            return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)  # noqa: S603
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 1, "", f"no answer within {TIMEOUT_S:.0f} s")

    def get(self, *arguments: str) -> list[Object]:
        """Return the objects that `kubectl get` finds. Raises NoCluster if it fails."""
        done = self.run("get", *arguments, "--ignore-not-found", "-o", "json")
        if done.returncode:
            raise NoCluster(last_line(done.stderr))
        found = json.loads(done.stdout or '{"items": []}')
        return list(found["items"]) if "items" in found else [found]

    def forward(self, stack: ExitStack, pods: Sequence[Pod]) -> dict[Pod, str]:
        """Forward a port of this machine to each pod, until `stack` is closed; return the URLs of those that answer."""
        # Not the API server's proxy: its connections come from outside the namespaces, whose policies reject them.
        command = ["kubectl", "--context", self.context, "port-forward", "--address", "127.0.0.1", "-n"]
        processes = {}
        for pod in pods:
            process = stack.enter_context(
                subprocess.Popen(  # noqa: S603 - our own arguments
                    [*command, pod.namespace, f"pod/{pod.name}", f":{pod.port}"],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            )
            stack.callback(process.terminate)
            processes[pod] = process
        urls = {}
        for pod, process in processes.items():
            output, _, _ = select.select(filter(None, [process.stdout]), [], [], FORWARD_S)
            if output and (found := re.search(r"127\.0\.0\.1:\d+", output[0].readline())):
                urls[pod] = f"http://{found[0]}"
        return urls


class Namespace:
    """The objects of a namespace."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        """Read them. Raises NoCluster."""
        self.name = name
        self._objects = cluster.get(KINDS, "-n", name)

    def of_kind(self, *kinds: str) -> dict[str, Object]:
        """Return the objects of some kinds by name."""
        return {each["metadata"]["name"]: each for each in self._objects if each["kind"] in kinds}

    def workloads(self) -> dict[str, Object]:
        """Return the Deployments and StatefulSets by name."""
        return self.of_kind("Deployment", "StatefulSet")

    def pods(self, labels: Mapping[str, str]) -> list[Object]:
        """Return the pods with these labels that are not being deleted."""
        return [
            pod
            for pod in self.of_kind("Pod").values()
            if matches(labels, pod["metadata"]) and "deletionTimestamp" not in pod["metadata"]
        ]

    def endpoints(self, service: str, port: int = 0) -> list[Pod]:
        """Return the ready pods behind a Service that have this port, or any."""
        found = []
        for each in self.of_kind("EndpointSlice").values():
            if each["metadata"].get("labels", {}).get("kubernetes.io/service-name") != service:
                continue
            numbers = [entry["port"] for entry in each.get("ports") or () if port in (0, entry["port"])]
            # An address that is not a pod has no targetRef; no condition means ready.
            pods = [
                entry["targetRef"]["name"]
                for entry in each.get("endpoints") or ()
                if entry["conditions"].get("ready", True) and "targetRef" in entry
            ]
            found += [Pod(self.name, pod, numbers[0]) for pod in pods if numbers]
        return sorted(found)

    def last_warning(self, name: str, reason: str = "") -> str:
        """Return the message of the latest warning about an object, or about one whose name begins with it.

        With a `reason`, other warnings are left out.
        """
        warnings = [
            (each.get("lastTimestamp") or each["metadata"].get("creationTimestamp") or "", each.get("message", ""))
            for each in self.of_kind("Event").values()
            if each.get("type") == "Warning"
            and each["involvedObject"].get("name", "").startswith(name)
            and reason in ("", each.get("reason"))
        ]
        return max(warnings, default=("", ""))[1]

    def environment(self, workload: str) -> dict[str, str]:
        """Return the variables of a workload's container that are not in Secrets."""
        (container, *_) = self.workloads()[workload]["spec"]["template"]["spec"]["containers"]
        maps = [source.get("configMapRef", {}).get("name") for source in container.get("envFrom", ())]
        found: dict[str, str] = {}
        for name in maps:
            found |= self.of_kind("ConfigMap").get(name, {}).get("data", {})
        return found | {each["name"]: each["value"] for each in container.get("env", ()) if "value" in each}


def matches(labels: Mapping[str, str], metadata: Mapping[str, Any]) -> bool:
    """Return whether an object has all these labels."""
    own: Mapping[str, str] = metadata.get("labels", {})
    return labels.items() <= own.items()


def last_line(text: str) -> str:
    """Return the last line of kubectl's errors, which says most, without "error: "."""
    lines = text.strip().splitlines() or ["no reason"]
    return lines[-1].removeprefix("error: ").removeprefix("Error from server ").strip()[:200]
