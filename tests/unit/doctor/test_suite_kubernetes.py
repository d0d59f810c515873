"""The doctor in a cluster names the pod, the Service, the target, or the permission that stops a signal.

A script in place of kubectl prints objects as a cluster has them, and forwards ports to servers of the test.
"""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from doctor.report import BROKEN, FRESH, MISSING, NOTE, OFF, SENT, Finding, Report, Unusable, text
from doctor.suite_kubernetes import SuiteInCluster
from tools import suite

# One line for each answer of kubectl; the first one of which the words are among the arguments is printed.
ANSWER = """case "$*" in *{words}*) /bin/cat <<'END'; /bin/cat <<'END' >&2; exit {status};; esac
{output}
END
{errors}
END
"""
FORWARD = """echo "Forwarding from 127.0.0.1:{port} -> 1"; exec /bin/sleep 60
"""
PORTS = {"tempo": 3200, "loki": 3100, "mimir": 9009, "pyroscope": 4040, "alloy": 12345}
PORTS |= {service.name: service.port for service in suite.SERVICES}
STACK = ("tempo", "loki", "mimir", "pyroscope", "alloy")
Object = dict[str, Any]


def pod(name: str, **status: Any) -> Object:
    """Return a pod of a workload, by default ready."""
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    labels = {"app.kubernetes.io/name": name}
    return {"kind": "Pod", "metadata": {"name": f"{name}-0", "labels": labels}, "status": status or ready}


def unready(container: Object, **status: Any) -> Object:
    """Return the status of a pod whose container has this state."""
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 300))
    conditions = [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "False"}]
    return {"startTime": started, "conditions": conditions, "containerStatuses": [container]} | status


def objects(name: str, replicas: int = 1) -> list[Object]:
    """Return a workload with one ready pod, its Service, and its EndpointSlice."""
    labels = {"app.kubernetes.io/name": name}
    of_suite = {"name": name, "labels": {"app.kubernetes.io/part-of": "mythical-beasts"}}
    container = {"name": name, "envFrom": [{"configMapRef": {"name": "map"}}]}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    entry = {"conditions": {"ready": True}, "targetRef": {"name": f"{name}-0"}}
    return [
        {"kind": "StatefulSet" if name in STACK else "Deployment", "metadata": of_suite, "spec": spec},
        {"kind": "Service", "metadata": {"name": name}, "spec": {"selector": labels}},
        {
            "kind": "EndpointSlice",
            "metadata": {"name": f"{name}-x", "labels": {"kubernetes.io/service-name": name}},
            "endpoints": [entry],
            "ports": [{"name": "http", "port": PORTS[name]}],
        },
        pod(name),
    ]


class FakeCluster:
    """A cluster in which everything works, until a test changes its objects or the answers of its pods."""

    def __init__(self, folder: Path) -> None:
        self._script = folder / "kubectl"
        self.overlay = "local"
        self.objects = {
            "mythical": [
                {"kind": "ConfigMap", "metadata": {"name": "map"}, "data": {"PROFILE_COLLECTOR_HOST": "alloy"}},
                *(each for service in suite.SERVICES for each in objects(service.name)),
            ],
            "monitoring-stack": [each for name in STACK for each in objects(name)],
        }
        self.commands: dict[str, tuple[str, str, int]] = {}
        self.components: list[Object] = []
        self.alloy_metrics = ""
        self.down_targets: list[Object] = []
        self.old: set[str] = set()  # the signals of which no data is found
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        """Stop the pods."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def report(self) -> Report:
        """Return the doctor's report on this cluster."""
        labels = {"mythical-beasts/overlay": self.overlay} if self.overlay else {}
        spaces = [{"kind": "Namespace", "metadata": {"name": name, "labels": labels}} for name in self.objects]
        commands = self.commands | {
            "config get-contexts": ("fake", "", 0),
            "get namespaces": (json.dumps({"items": spaces}), "", 0),
            "get -k": ("", "", 0),
            "auth can-i": ("yes", "", 0),
            "exec": ("{}", "", 0),
        }
        for name, listed in self.objects.items():
            commands[f"events -n {name}"] = (json.dumps({"items": listed}), "", 0)
        lines = ["#!/bin/sh\n"]
        for words, (output, errors, status) in (commands | self.commands).items():
            pattern = words.replace(" ", "\\ ")
            lines.append(ANSWER.format(words=pattern, output=output, errors=errors, status=status))
        forward = FORWARD.format(port=self._server.server_address[1])
        self._script.write_text("".join([*lines, forward]), encoding="utf-8")
        self._script.chmod(0o755)
        return SuiteInCluster("fake").report()

    def change(self, name: str, *changed: Object, kinds: tuple[str, ...] = ("Pod",)) -> None:
        """Replace the objects of some kinds of a workload."""
        for space, listed in self.objects.items():
            kept = [
                each for each in listed if each["kind"] not in kinds or not each["metadata"]["name"].startswith(name)
            ]
            if kept != listed:
                self.objects[space] = [*kept, *changed]

    def without_endpoints(self, name: str, *pods: Object) -> None:
        """Replace the pods of a workload with pods that its Service does not reach."""
        self.change(name, *pods, kinds=("Pod", "EndpointSlice"))

    def answer(self, path: str) -> object:
        """Return the body of a response of any pod."""
        now = time.time()
        found: object = {}
        if path.startswith("/api/v0/web/components"):
            found = self.components
        elif path.startswith("/api/search"):
            found = {"traces": [] if "traces" in self.old else [{"startTimeUnixNano": str(int(now * 1e9))}]}
        elif path.startswith("/loki/"):
            found = {"data": {"result": [] if "logs" in self.old else [{"values": [[str(int(now * 1e9)), "line"]]}]}}
        elif path.startswith("/querier.v1"):
            points = [] if "profiles" in self.old else [{"timestamp": str(int(now * 1000)), "value": 1}]
            found = {"series": [{"points": points}]}
        elif "process_memory_usage_bytes" in path:
            found = {"data": {"result": [] if "metrics" in self.old else [{"value": [now, str(now)]}]}}
        elif "infrastructure" in path:
            found = {"data": {"result": [{"metric": each} for each in self.down_targets]}}
        elif path.startswith("/prometheus/"):
            found = {"data": {"result": []}}
        return found

    def _handler(cluster) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the handler's
        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                is_page = urlsplit(self.path).path == "/metrics"
                body = cluster.alloy_metrics if is_page else json.dumps(cluster.answer(self.path))
                self.send_response(200)
                self.end_headers()
                self.wfile.write(body.encode())

            do_GET = do_POST = answer  # noqa: N815 - http.server's names

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        return Handler


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    """Start a cluster of which kubectl is the first one on PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    started = FakeCluster(tmp_path)
    yield started
    started.close()


def broken(report: Report) -> list[Finding]:
    """Return what is broken; every line fits a terminal, and each finding has a remedy."""
    assert max(map(len, (line for line in text(report) if "://" not in line and "-n" not in line))) <= 80
    found = [finding for finding in report.findings if finding.state == BROKEN]
    assert all(finding.remedy for finding in found)
    return found


def hops(report: Report) -> dict[str, set[str]]:
    """Return the broken stages of missing signals, by signal."""
    found: dict[str, set[str]] = {}
    for cell in report.cells:
        if cell.fault:
            found.setdefault(cell.signal, set()).add(cell.fault.hop)
    return found


def test_a_cluster_in_which_everything_arrives_has_no_finding(cluster: FakeCluster) -> None:
    """All signals of all services are fresh."""
    report = cluster.report()
    assert report.findings == []
    assert {cell.state for cell in report.cells} == {FRESH}
    assert report.status == 0


def test_without_kubectl_and_with_an_unknown_context_there_is_one_line(cluster: FakeCluster, tmp_path: Path) -> None:
    """The line names the known contexts; the command line turns it into status 2."""
    cluster.report()
    with pytest.raises(Unusable, match="the context 'other' does not exist; use one of: fake"):
        SuiteInCluster("other")
    (tmp_path / "kubectl").unlink()
    with pytest.raises(Unusable, match="kubectl is not installed"):
        SuiteInCluster("fake")


def test_a_cluster_that_does_not_answer_is_one_finding(cluster: FakeCluster) -> None:
    """It contains the last line of kubectl's errors."""
    refused = "E1128 memcache.go\nThe connection to the server 10.0.0.1:6443 was refused"
    cluster.commands = {"get namespaces": ("", refused, 1)}
    (finding,) = broken(cluster.report())
    assert (finding.what, "10.0.0.1:6443 was refused" in finding.said) == ("cluster", True)


def test_a_missing_namespace_is_reported_with_the_command_that_deploys(cluster: FakeCluster) -> None:
    """Of the overlay "source", only one is expected."""
    del cluster.objects["monitoring-stack"]
    (finding,) = broken(cluster.report())
    assert (finding.what, finding.remedy.split()[0]) == ("namespace/monitoring-stack", "kubernetes/deploy.sh")
    cluster.overlay = "source"
    cluster.objects["monitoring-stack"] = []
    assert broken(cluster.report()) == []


@pytest.mark.parametrize(
    ("container", "said", "remedy"),
    [
        (
            {"image": "mythical-beasts:0.9", "state": {"waiting": {"reason": "ErrImagePull"}}},
            "the node does not have the image mythical-beasts:0.9",
            "--images load",
        ),
        (
            {"image": "grafana/x:1", "state": {"waiting": {"reason": "ImagePullBackOff"}}},
            "the node does not have the image grafana/x:1",
            "correct the image",
        ),
        (
            {
                "image": "i",
                "restartCount": 3,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
            },
            "its container exited with status 137 (OOMKilled), 3 restarts",
            "--previous",
        ),
        (
            {"image": "i", "state": {"waiting": {"reason": "CreateContainerConfigError", "message": 'no secret "s"'}}},
            'CreateContainerConfigError: no secret "s"',
            "describe",
        ),
        ({"image": "i", "state": {"running": {}}}, "s: Readiness probe failed", "logs"),
    ],
)
def test_a_pod_that_is_not_ready_is_named_with_its_reason(
    cluster: FakeCluster, container: Object, said: str, remedy: str
) -> None:
    """Its signals are missing for the same reason."""
    cluster.without_endpoints("mythical-server", pod("mythical-server", **unready(container)))
    event = {"kind": "Event", "type": "Warning", "message": "Readiness probe failed", "metadata": {"name": "e"}}
    cluster.objects["mythical"].append(event | {"involvedObject": {"name": "mythical-server-0"}})
    cluster.old = {"traces"}
    report = cluster.report()
    (finding,) = broken(report)
    assert finding.what == "pod/mythical-server-0"
    assert said in finding.said
    assert remedy in finding.remedy
    assert "mythical-server" in hops(report)["traces"]


def test_a_pod_that_no_node_accepts_is_named(cluster: FakeCluster) -> None:
    """The scheduler's message has the resource that is missing."""
    condition = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available: 1 Insufficient cpu."}
    cluster.without_endpoints("tempo", pod("tempo", conditions=[condition]))
    (finding,) = broken(cluster.report())
    assert (finding.what, "Insufficient cpu" in finding.said) == ("pod/tempo-0", True)


def test_a_volume_that_is_not_created_is_named_with_its_event(cluster: FakeCluster) -> None:
    """The scheduler only says that the claim has no volume."""
    message = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims."
    waiting = pod("loki", conditions=[{"type": "PodScheduled", "status": "False", "message": message}])
    waiting["spec"] = {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data-loki-0"}}]}
    event: Object = {"kind": "Event", "type": "Warning", "message": 'storageclass "fast" not found'}
    event |= {"metadata": {"name": "e"}, "involvedObject": {"name": "data-loki-0"}, "reason": "ProvisioningFailed"}
    cluster.without_endpoints("loki", waiting)
    cluster.objects["monitoring-stack"].append(event)
    (finding,) = broken(cluster.report())
    assert (finding.what, 'storageclass "fast" not found' in finding.said) == ("pod/loki-0", True)


def test_a_pod_that_is_starting_is_a_note(cluster: FakeCluster) -> None:
    """It does not fail the report."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    starting = unready({"image": "i", "state": {"waiting": {"reason": "ContainerCreating"}}}, startTime=now)
    cluster.change("mythical-server", pod("mythical-server"), pod("mythical-server", **starting))
    cluster.objects["mythical"][-1]["metadata"]["name"] = "mythical-server-1"
    report = cluster.report()
    assert [(each.what, each.state) for each in report.findings] == [("pod/mythical-server-1", NOTE)]
    assert report.status == 0


def test_a_workload_without_replicas_is_named_with_the_command_that_scales_it(cluster: FakeCluster) -> None:
    """The log lines of all services stop in the backend that has no pod."""
    cluster.change("loki", *objects("loki", replicas=0)[:2], kinds=("Pod", "EndpointSlice", "StatefulSet", "Service"))
    cluster.old = {"logs"}
    report = cluster.report()
    (finding,) = broken(report)
    assert (finding.what, finding.said) == ("statefulset/loki", "has 0 replicas")
    assert "scale -n monitoring-stack statefulset/loki --replicas=1" in finding.remedy
    assert hops(report) == {"logs": {"Alloy → loki"}}


def test_pods_that_are_not_created_are_reported_with_the_event(cluster: FakeCluster) -> None:
    """A quota or the Pod Security profile rejects them."""
    cluster.without_endpoints("alloy")
    event: Object = {"kind": "Event", "type": "Warning", "message": "exceeded quota", "metadata": {"name": "e"}}
    cluster.objects["monitoring-stack"].append(event | {"reason": "FailedCreate", "involvedObject": {"name": "alloy"}})
    cluster.old = {"traces"}
    report = cluster.report()
    (finding,) = broken(report)
    assert (finding.what, finding.said) == ("statefulset/alloy", "has 0 of 1 pods: exceeded quota")
    assert hops(report) == {"traces": {"service → Alloy"}}


def test_a_service_that_selects_no_pod_is_named_with_its_selector(cluster: FakeCluster) -> None:
    """The workload is ready, so only the Service is wrong."""
    other: Object = {"kind": "Service", "metadata": {"name": "tempo"}, "spec": {"selector": {"app": "other"}}}
    cluster.change("tempo", other, kinds=("Service", "EndpointSlice"))
    (finding,) = broken(cluster.report())
    assert (finding.what, finding.said) == ("service/tempo", "has no endpoints: no pod has the labels app=other")


def test_objects_of_the_overlay_that_are_missing_are_named(cluster: FakeCluster) -> None:
    """A ConfigMap with another name is only a note: the files were changed after the deployment."""
    errors = (
        'Error from server (NotFound): clusterrolebindings.rbac.authorization.k8s.io "mythical-alloy" not found\n'
        'Error from server (NotFound): configmaps "mythical-1" not found'
    )
    cluster.commands = {"get -k": ("", errors, 1)}
    report = cluster.report()
    assert [each.what for each in broken(report)] == ["clusterrolebindings/mythical-alloy"]
    assert [each.what for each in report.findings if each.state == NOTE] == ["configmaps/mythical-1"]


def test_a_configuration_that_a_workload_needs_is_named_with_the_workload(cluster: FakeCluster) -> None:
    """Its pods run on, and do not start again."""
    cluster.commands = {"get -k": ("", 'Error from server (NotFound): configmaps "map" not found', 1)}
    (finding,) = broken(cluster.report())
    assert (finding.what, "mythical-server, " in finding.said) == ("configmaps/map", True)


def test_a_permission_that_alloy_lacks_is_named_with_its_consequence(cluster: FakeCluster) -> None:
    """Log lines stop there; other signals do not need the permission."""
    cluster.commands = {"can-i get pods --subresource=log": ("no", "", 1)}
    cluster.old = {"logs"}
    report = cluster.report()
    (finding,) = broken(report)
    assert (finding.what, finding.said) == ("permissions of alloy", "it may not get pods/log: it reads no log line")
    assert hops(report) == {"logs": {f"{name} → Alloy" for name in suite.SERVICE_NAMES}}


def test_permissions_that_may_not_be_asked_for_are_a_note(cluster: FakeCluster) -> None:
    """Only an account that may impersonate others can ask."""
    cluster.commands = {"auth can-i": ("", 'Error from server (Forbidden): users "x" is forbidden', 1)}
    report = cluster.report()
    assert [(each.what, each.state) for each in report.findings] == [("permissions of alloy", NOTE)]


def test_an_unhealthy_component_and_a_target_that_is_down_are_named(cluster: FakeCluster) -> None:
    """They are reported as with Docker; a target is the name of a pod, or of a server."""
    cluster.components = [
        {"localID": "otelcol.exporter.otlp.tempo", "health": {"state": "unhealthy", "message": "no such host"}}
    ]
    cluster.down_targets = [{"service": "rabbitmq"}, {"service": "app", "pod": "app-7"}]
    cluster.old = {"traces"}
    report = cluster.report()
    assert [each.what for each in broken(report)] == [
        *("otelcol.exporter.otlp.tempo", "metrics of app-7", "metrics of rabbitmq")
    ]
    assert hops(report) == {"traces": {"Alloy → tempo"}}


@pytest.mark.parametrize(
    ("metrics", "said", "remedy"),
    [
        (
            'otelcol_loadbalancer_num_resolutions_total{{component_id="{0}",resolver="dns",success="false"}} 2\n',
            "finds no replica: its Service has no address",
            "describe -n monitoring-stack service/alloy-cluster",
        ),
        (
            'otelcol_exporter_queue_size{{component_id="{0}",exporter="otlp/loadbalancing/{0}_10.244.0.7:4319"}} 3\n',
            "3 batches wait for 10.244.0.7:4319 of pod/alloy-0",
            "network policies",
        ),
        (
            'otelcol_exporter_queue_size{{component_id="{0}",exporter="otlp/loadbalancing/{0}_10.244.0.9:4319"}} 3\n',
            "3 batches wait for 10.244.0.9:4319, which is not the address of a pod of Alloy",
            "describe -n monitoring-stack service/alloy-cluster",
        ),
    ],
)
def test_spans_that_do_not_reach_a_replica_of_alloy_are_named(
    cluster: FakeCluster, metrics: str, said: str, remedy: str
) -> None:
    """The component is healthy in each case. The receiver, which rejects spans then, is not the cause."""
    rejected = "otelcol_receiver_refused_spans_total 7\n"
    cluster.alloy_metrics = metrics.format("otelcol.exporter.loadbalancing.replicas") + rejected
    cluster.change("alloy", pod("alloy"))
    cluster.objects["monitoring-stack"][-1]["status"]["podIP"] = "10.244.0.7"
    cluster.old = {"traces", "profiles"}
    report = cluster.report()
    assert hops(report)["traces"] == {"Alloy → replica of Alloy"}
    assert hops(report)["profiles"] == {f"{name} → Alloy" for name in suite.SERVICE_NAMES}
    faults = [cell.fault for cell in report.cells if cell.fault and cell.signal == "traces"]
    assert all(said in fault.said and remedy in fault.remedy for fault in faults)


def test_spans_that_had_no_replica_when_alloy_started_are_not_the_cause(cluster: FakeCluster) -> None:
    """The receiver counts them as rejected; only a rejection beyond them points to its memory."""
    name = "otelcol.exporter.loadbalancing.replicas"
    failed = f'otelcol_exporter_send_failed_spans_total{{component_id="{name}",exporter="loadbalancing/{name}"}} 7\n'
    cluster.old = {"traces"}
    cluster.alloy_metrics = failed + "otelcol_receiver_refused_spans_total 7\n"
    assert {cell.fault.said for cell in cluster.report().cells if cell.fault} == {
        "all checks pass, but no data has arrived recently"
    }
    cluster.alloy_metrics = failed + "otelcol_receiver_refused_spans_total 9\n"
    (said,) = {cell.fault.said for cell in cluster.report().cells if cell.fault}
    assert "refused 2 since its start" in said


def test_an_exporter_that_repeats_its_pushes_is_named(cluster: FakeCluster) -> None:
    """The backend works, and a network policy or the address in Alloy's configuration separates them."""
    cluster.alloy_metrics = 'loki_write_batch_retries_total{component_id="loki.write.loki"} 5\n'
    cluster.old = {"logs"}
    report = cluster.report()
    assert hops(report) == {"logs": {"Alloy → loki"}}
    (said,) = {cell.fault.said for cell in report.cells if cell.fault}
    assert said.endswith("(loki_write_batch_retries_total is 5), and none has succeeded since its start")


def test_a_cloud_that_is_never_reached_is_named(cluster: FakeCluster) -> None:
    """A push that failed once, between others that succeeded, is not a fault."""
    cluster.overlay = ""
    cluster.objects["monitoring-stack"] = objects("alloy")
    cluster.alloy_metrics = 'otelcol_exporter_queue_size{component_id="otelcol.exporter.otlp.tempo"} 5\n'
    assert hops(cluster.report()) == {"traces": {"Alloy → tempo"}}
    cluster.alloy_metrics += 'otelcol_exporter_sent_spans_total{component_id="otelcol.exporter.otlp.tempo"} 9\n'
    assert {cell.state for cell in cluster.report().cells} == {SENT}


def test_a_configuration_that_alloy_rejected_is_named(cluster: FakeCluster) -> None:
    """Alloy runs on with the one before."""
    cluster.alloy_metrics = "alloy_config_last_load_successful 0\n"
    (finding,) = broken(cluster.report())
    assert finding.what == "configuration of alloy"


def test_without_backends_a_signal_is_followed_to_the_exporter(cluster: FakeCluster) -> None:
    """The overlay "cloud": Grafana Cloud cannot be queried from here."""
    cluster.overlay = ""
    cluster.objects["monitoring-stack"] = objects("alloy")
    assert {cell.state for cell in cluster.report().cells} == {SENT}
    cluster.alloy_metrics = 'loki_write_dropped_entries_total{component_id="loki.write.loki"} 2\n'
    report = cluster.report()
    assert {cell.signal for cell in report.cells if cell.state == MISSING} == {"logs"}
    assert hops(report) == {"logs": {"Alloy → loki"}}


def test_without_alloy_the_target_is_probed_in_the_pod(cluster: FakeCluster) -> None:
    """The overlay "source": the names and files of a target are those inside the pod; profiles are not sent."""
    cluster.overlay = "source"
    cluster.objects["monitoring-stack"] = []
    assert {cell.state for cell in cluster.report().cells} == {SENT, OFF}
    cluster.commands = {"exec": (json.dumps({"traces": ["the credentials are rejected", "correct them"]}), "", 0)}
    report = cluster.report()
    assert hops(report) == {"traces": {f"{name} → collector" for name in suite.SERVICE_NAMES}}
