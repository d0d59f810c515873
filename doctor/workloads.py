"""Why a workload in a cluster is not ready: its number of replicas, its pods, their images, the events about them."""

from collections.abc import Iterator
from datetime import UTC, datetime

from doctor.cluster import Cluster, Namespace, Object, matches
from doctor.report import BROKEN, NOTE, Finding

IMAGE = {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"}
STARTING = {"", "ContainerCreating", "PodInitializing"}
# A pod of the suite is ready within a minute, if its image is on the node.
SLOW_S = 90.0


def check(cluster: Cluster, space: Namespace, deploy: str) -> dict[str, list[Finding]]:
    """Return what is wrong with each workload and its pods, by its name; `deploy` is the command that deploys."""
    return {name: list(_workload(cluster, space, each, deploy)) for name, each in space.workloads().items()}


def check_services(cluster: Cluster, space: Namespace) -> Iterator[Finding]:
    """Report Services without a ready pod, unless a workload that is not ready explains it."""
    workloads = [each["spec"] for each in space.workloads().values()]
    for name, service in space.of_kind("Service").items():
        labels = service["spec"].get("selector")
        if not labels or space.endpoints(name):
            continue
        own = [each for each in workloads if matches(labels, each["template"]["metadata"])]
        pods = space.pods(labels)
        if own and not any(is_ready(pod) for pod in pods):
            continue
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        said = "its targetPort is not a port of its pods" if pods else f"no pod has the labels {selector}"
        describe = cluster.command("describe", "-n", space.name, f"service/{name}")
        yield Finding(f"service/{name}", f"has no endpoints: {said}", BROKEN, describe)


def is_ready(pod: Object) -> bool:
    """Return whether a pod has the condition Ready."""
    conditions = pod["status"].get("conditions", ())
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def age_s(timestamp: str) -> float:
    """Return the seconds since a time in RFC 3339."""
    return (datetime.now(UTC) - datetime.fromisoformat(timestamp)).total_seconds()


def _workload(cluster: Cluster, space: Namespace, workload: Object, deploy: str) -> Iterator[Finding]:
    what = f"{workload['kind'].lower()}/{workload['metadata']['name']}"
    wanted = workload["spec"].get("replicas", 1)
    if wanted == 0:
        scale = cluster.command("scale", "-n", space.name, what, "--replicas=1")
        yield Finding(what, "has 0 replicas", BROKEN, scale)
        return
    pods = space.pods(workload["spec"]["selector"]["matchLabels"])
    if len(pods) < wanted:
        # A quota, the Pod Security profile, or a controller that does not run.
        why = space.last_warning(workload["metadata"]["name"], "FailedCreate") or "no event says why"
        describe = cluster.command("describe", "-n", space.name, what)
        yield Finding(what, f"has {len(pods)} of {wanted} pods: {why}", BROKEN, describe)
    for pod in pods:
        if not is_ready(pod):
            yield _pod(cluster, space, pod, deploy)


def _pod(cluster: Cluster, space: Namespace, pod: Object, deploy: str) -> Finding:
    """Return the reason why a pod is not ready."""
    name, status = pod["metadata"]["name"], pod["status"]
    what = f"pod/{name}"
    describe = cluster.command("describe", "-n", space.name, what)
    log = cluster.command("logs", "-n", space.name, name, "--tail=20")
    for condition in status.get("conditions", ()):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            claims = [
                volume["persistentVolumeClaim"]["claimName"]
                for volume in pod.get("spec", {}).get("volumes", ())
                if "persistentVolumeClaim" in volume
            ]
            # The scheduler only says that a claim is not bound; the events of the claim say why.
            events = (space.last_warning(each) for each in claims)
            said = "; ".join(filter(None, (condition.get("message"), *events)))
            return Finding(what, f"no node accepts it: {said}", BROKEN, describe)
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        waiting = container["state"].get("waiting", {})
        reason, message = waiting.get("reason", ""), waiting.get("message", "")
        if reason in IMAGE:
            image = container["image"]
            ours = image.split("/")[-1].startswith("mythical-")
            load = f"docker compose build mythical-server load; {deploy} --images load"
            said = f"the node does not have the image {image}, and cannot pull it ({reason})"
            return Finding(what, said, BROKEN, load if ours else f"correct the image or its tag; {describe}")
        if ended := container["state"].get("terminated") or container.get("lastState", {}).get("terminated"):
            said = f"its container exited with status {ended['exitCode']} ({ended.get('reason', 'Error')})"
            restarts = container.get("restartCount", 0)
            return Finding(what, f"{said}, {restarts} restarts", BROKEN, f"{log} --previous")
        if reason not in STARTING:
            return Finding(what, f"{reason}: {message}", BROKEN, describe)
    seconds = age_s(status.get("startTime") or pod["metadata"]["creationTimestamp"])
    if seconds < SLOW_S:
        return Finding(what, f"starting for {seconds:.0f} s", NOTE, "wait, and run the doctor again")
    why = space.last_warning(name) or "no event says why"
    return Finding(what, f"not ready for {seconds:.0f} s: {why}", BROKEN, f"{describe}; {log}")
