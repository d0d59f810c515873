"""Checks of the suite in a cluster: every signal of every service, and the objects on its path."""

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

from doctor import backends, workloads
from doctor.alloy import Alloy, Remedies
from doctor.cluster import Cluster, Namespace, NoCluster, Pod, last_line
from doctor.containers import RUNNING, Container
from doctor.env_files import ROOT
from doctor.report import BROKEN, MISSING, NOTE, OFF, SENT, Cell, Fault, Finding, Report
from doctor.service import Service, idle_upstream, occasional, service_fault
from doctor.signal_paths import PATHS
from tools import suite
from tools.probe import Diagnosis

APPLICATION, STACK = "mythical", "monitoring-stack"
OVERLAY_LABEL = "mythical-beasts/overlay"
ACCOUNT = "system:serviceaccount:monitoring-stack:alloy"
BACKEND_PORTS = {"tempo": 3200, "mimir": 9009, "loki": 3100, "pyroscope": 4040}
ALLOY_PORT = 12345
REPLICAS = "alloy-cluster"  # the headless Service by which Alloy's replicas find each other
# What Alloy's ClusterRole grants, and what is missing without it.
PERMISSIONS = {
    ("list", "pods"): "it finds no pod to scrape, and reads no log line",
    ("get", "pods/log"): "it reads no log line",
    ("list", "replicasets.apps"): "spans and log lines have no name of a Deployment",
    ("list", "nodes"): "it finds no kubelet to scrape",
    ("get", "nodes/metrics"): "kubelets reject its scrapes",
}
LINES_NEED = {"pods", "pods/log"}
# In a cluster, OTLP arrives at a receiver of kubernetes.alloy, and log lines are read from the pods.
OTLP = "otelcol.receiver.otlp.pods"
CLUSTER_PATHS = PATHS | {
    "traces": replace(PATHS["traces"], receiver=OTLP),
    "metrics": replace(PATHS["metrics"], receiver=OTLP),
    "logs": replace(PATHS["logs"], receiver="loki.source.kubernetes.pods"),
}


class SuiteInCluster:
    """Checks the suite in the cluster of a context. Raises Unusable without kubectl or with an unknown context."""

    def __init__(self, context: str) -> None:
        self._cluster = Cluster.named(context)

    def report(self) -> Report:
        """Check everything."""
        try:
            spaces = self._cluster.get("namespaces", APPLICATION, STACK)
            overlay = spaces[0]["metadata"].get("labels", {}).get(OVERLAY_LABEL, "") if spaces else ""
            deploy = f"kubernetes/deploy.sh --context {self._cluster.context} --overlay {overlay or 'local'}"
            expected = {APPLICATION} if overlay == "source" else {APPLICATION, STACK}
            missing = sorted(expected - {space["metadata"]["name"] for space in spaces})
            if missing:
                return Report(
                    "kubernetes", [Finding(f"namespace/{name}", "does not exist", BROKEN, deploy) for name in missing]
                )
            with ExitStack() as forwards:
                return _Deployment(self._cluster, overlay, deploy, forwards).report()
        except NoCluster as error:
            said = f"the context {self._cluster.context} does not work: {error}"
            remedy = "start the cluster, or use another context or account"
            return Report("kubernetes", [Finding("cluster", said, BROKEN, remedy)])


class _Deployment:
    """A snapshot of a deployed overlay. A service and a backend are queried in one of their pods, Alloy in all."""

    def __init__(self, cluster: Cluster, overlay: str, deploy: str, forwards: ExitStack) -> None:
        """Read the objects, and forward the ports of pods until `forwards` is closed. Raises NoCluster."""
        self._cluster, self._overlay, self._deploy = cluster, overlay, deploy
        self._spaces = {name: Namespace(cluster, name) for name in (APPLICATION, STACK)}
        self._found = {
            name: findings
            for space in self._spaces.values()
            for name, findings in workloads.check(cluster, space, deploy).items()
        }
        names = [(APPLICATION, each.name, each.port) for each in suite.SERVICES]
        names += [(STACK, name, port) for name, port in BACKEND_PORTS.items()]
        ready = {name: pods[0] for space, name, port in names if (pods := self._spaces[space].endpoints(name, port))}
        alloys = self._spaces[STACK].endpoints("alloy", ALLOY_PORT)
        urls = cluster.forward(forwards, [*ready.values(), *alloys])
        self._urls = {name: urls[pod] for name, pod in ready.items() if pod in urls}
        self._services = {each.name: self._service(each) for each in suite.SERVICES}
        self._alloys = [self._alloy(pod, urls.get(pod, "")) for pod in alloys]
        self._denied: set[str] = set()
        self._problems: dict[str, dict[str, Diagnosis]] = {}  # with their targets, by service

    def report(self) -> Report:
        """Return all findings, and the cell of each signal."""
        findings = [finding for found in self._found.values() for finding in found]
        for space in self._spaces.values():
            findings += workloads.check_services(self._cluster, space)
        findings += self._missing_objects()
        findings += self._permissions()
        findings += [finding for alloy in self._alloys for finding in alloy.findings()]
        findings += self._failed_targets()
        findings += [each for each in occasional(self._services) if each.what in self._urls]
        cells = [self._cell(name, signal) for name in suite.SERVICE_NAMES for signal in PATHS]
        return Report("kubernetes", findings, cells)

    # --- The objects ------------------------------------------------------------------------------------------------

    def _stopped(self, name: str) -> str:
        """Return why no pod of a workload is ready, else an empty string."""
        found = [f"{finding.what} {finding.said}" for finding in self._found.get(name, ())]
        return "" if name in self._urls else "; ".join(found) or f"service/{name} has no ready pod"

    def _missing_objects(self) -> Iterator[Finding]:
        """Yield the objects of the overlay in this checkout that are not in the cluster."""
        folder = f"kubernetes/overlays/{self._overlay}"
        if not self._overlay or not (ROOT / folder).exists():
            return
        errors = self._cluster.run("get", "-k", folder, "-o", "name").stderr
        for kind, name in re.findall(r'\(NotFound\): ([\w-]+)\S* "(\S+)" not found', errors):
            used = [
                workload
                for space in self._spaces.values()
                for workload, each in space.workloads().items()
                if f'"{name}"' in json.dumps(each["spec"]["template"])
            ]
            if kind not in ("configmaps", "secrets"):
                yield Finding(f"{kind}/{name}", "does not exist", BROKEN, self._deploy)
            elif used:
                said = f"does not exist, and the pods of {', '.join(used)} need it when they restart"
                yield Finding(f"{kind}/{name}", said, BROKEN, self._deploy)
            else:
                said = "is not in the cluster: its files were changed after the deployment"
                yield Finding(f"{kind}/{name}", said, NOTE, self._deploy)

    def _permissions(self) -> Iterator[Finding]:
        for (verb, resource), said in PERMISSIONS.items() if "alloy" in self._found else ():
            kind, _, part = resource.partition("/")
            arguments = ("auth", "can-i", verb, kind, f"--subresource={part}", "--all-namespaces", f"--as={ACCOUNT}")
            done = self._cluster.run(*arguments)
            if done.stdout.strip() == "no":
                self._denied.add(resource)
                yield Finding("permissions of alloy", f"it may not {verb} {resource}: {said}", BROKEN, self._deploy)
            elif done.stdout.strip() != "yes":
                why = f"were not checked: {last_line(done.stderr)}"
                yield Finding("permissions of alloy", why, NOTE, "use an account that may impersonate others")
                return

    def _failed_targets(self) -> list[Finding]:
        if "mimir" not in self._urls:
            return []
        boxes = {name: Container(name, "not ready" if found else RUNNING) for name, found in self._found.items()}
        forward = self._cluster.command("port-forward", "-n", STACK, "service/alloy", str(ALLOY_PORT))
        log = f"{forward}; open http://localhost:{ALLOY_PORT}, and see the errors of prometheus.scrape"
        execute = self._cluster.command("exec", "-n", APPLICATION, "{}-0", "--")
        return backends.failed_targets(self._urls["mimir"], boxes, log, execute)

    # --- The path of a signal ---------------------------------------------------------------------------------------

    def _service(self, service: suite.Service) -> Service:
        deployment = f"deployment/{service.name}"
        describe = self._cluster.command("describe", "-n", APPLICATION, deployment)
        space = self._spaces[APPLICATION]
        return Service(
            service.name,
            self._urls.get(service.name) or f"http://{service.name}.{APPLICATION}:{service.port}",
            log=self._cluster.command("logs", "-n", APPLICATION, deployment, "--tail=20"),
            start=describe,
            environment=space.environment(service.name) if service.name in space.workloads() else None,
            container_state=self._stopped(service.name),
        )

    def _alloy(self, pod: Pod, url: str) -> Alloy:
        logs = self._cluster.command("logs", "-n", STACK, pod.name)
        forward = self._cluster.command("port-forward", "-n", STACK, f"pod/{pod.name}", f"{ALLOY_PORT}:{pod.port}")
        remedies = Remedies(
            start=f"{logs} --tail=20",
            log=f"{logs} --tail=50",
            memory=f"check its memory: {self._cluster.command('top', 'pod', '-n', STACK, pod.name)}",
            open=f"{forward}; open http://localhost:{ALLOY_PORT}",
        )
        return Alloy.examine(url, "" if url else f"no port of pod/{pod.name} could be forwarded", remedies)

    def _cell(self, service: str, signal: str) -> Cell:
        name = PATHS[signal].backend
        if name in self._found:
            return backends.cell(self._urls.get(name, ""), service, signal, lambda: self._fault(service, signal))
        if signal == "profiles" and "alloy" not in self._found:
            return Cell(service, signal, OFF)  # the overlay "source": OTLP has no stable signal for profiles
        fault = (
            self._fault_up_to_alloy(service, signal)
            or self._exporter_fault(signal)
            or self._undelivered(service, signal)
            or self._retry_fault(signal, delivered_before=False)
        )
        return Cell(service, signal, MISSING if fault else SENT, None, fault)

    def _fault(self, service: str, signal: str) -> Fault:
        """Return the first broken stage on the signal's path."""
        return (
            self._fault_up_to_alloy(service, signal)
            or self._backend_fault(PATHS[signal].backend)
            or self._services[service].dropped(signal)
            or self._exporter_fault(signal)
            or self._undelivered(service, signal)
            or self._retry_fault(signal, delivered_before=True)
            or self._services[service].unexplained(signal)
        )

    def _fault_up_to_alloy(self, name: str, signal: str) -> Fault | None:
        service = self._services[name]
        if signal == "logs" and not self._by_otlp(service):
            # Alloy reads standard output, whatever the settings of the service.
            fault = service.down() or service.not_ready() or idle_upstream(self._services, service, signal)
            if denied := fault is None and self._denied & LINES_NEED:
                said = f"Alloy may not read {', '.join(sorted(denied))}"
                fault = Fault(f"{name} → Alloy", said, self._deploy)
        else:
            fault = service_fault(self._services, service, signal)
        return fault or self._receiver_fault(service, signal)

    def _receiver_fault(self, service: Service, signal: str) -> Fault | None:
        if "alloy" not in self._found:
            return None
        if not self._alloys:
            said = self._stopped("alloy")
            return Fault("service → Alloy", said, self._cluster.command("describe", "-n", STACK, "statefulset/alloy"))
        path = PATHS[signal] if signal == "logs" and self._by_otlp(service) else CLUSTER_PATHS[signal]
        # The receiver also rejects the spans that do not reach a replica, so that comes first.
        faults = (
            alloy.down() or (self._replicas_fault(alloy) if signal == "traces" else None) or alloy.receiver_fault(path)
            for alloy in self._alloys
        )
        return next(filter(None, faults), None)

    def _replicas_fault(self, alloy: Alloy) -> Fault | None:
        pods = self._spaces[STACK].pods(self._spaces[STACK].workloads()["alloy"]["spec"]["selector"]["matchLabels"])
        by_address = {pod["status"].get("podIP", ""): pod["metadata"]["name"] for pod in pods}
        return alloy.replicas_fault(by_address, self._cluster.command("describe", "-n", STACK, f"service/{REPLICAS}"))

    def _retry_fault(self, signal: str, *, delivered_before: bool) -> Fault | None:
        faults = (alloy.retry_fault(PATHS[signal], delivered_before=delivered_before) for alloy in self._alloys)
        return next(filter(None, faults), None)

    def _exporter_fault(self, signal: str) -> Fault | None:
        return next(filter(None, (alloy.exporter_fault(PATHS[signal]) for alloy in self._alloys)), None)

    def _backend_fault(self, name: str) -> Fault | None:
        describe = self._cluster.command("describe", "-n", STACK, f"statefulset/{name}")
        if why := self._stopped(name):
            return Fault(f"Alloy → {name}", why, describe)
        return backends.not_ready(name, self._urls[name], "", describe)

    def _undelivered(self, service: str, signal: str) -> Fault | None:
        """Return a fault if the target of the service does not work, as seen from its pod."""
        if service not in self._problems:
            command = ("exec", "-n", APPLICATION, f"deployment/{service}", "--", "python", "-m", "tools.probe")
            done = self._cluster.run(*command)
            self._problems[service] = json.loads(done.stdout or "{}") if done.returncode == 0 else {}
        over_otlp = signal != "logs" or self._by_otlp(self._services[service])
        return self._services[service].undelivered(signal, self._problems[service]) if over_otlp else None

    @staticmethod
    def _by_otlp(service: Service) -> bool:
        return (service.environment or {}).get("OTEL_LOGS_EXPORTER", "").lower() == "otlp"
