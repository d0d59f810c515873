"""Failed requests while pods are killed, updated, and scaled, under the load of Locust. Each test prints numbers."""

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import pytest

from doctor.metrics_text import total
from tests.kubernetes.cluster import APPLICATION, STACK, Cluster, eventually, fetch
from tests.stack.backends import Backends

SERVER, RECORDER = "deployment/mythical-server", "deployment/mythical-recorder"
PUBLISHERS = ("deployment/mythical-requester", "deployment/mythical-frontend")
# The users' time limit for a response, which a busy machine exceeds.
SLOW = "expected a response within"
# The least number of requests before and after a change, so that "none failed" is meaningful.
MIN_REQUESTS = 50


class Load:
    """The simulated users in the cluster, with the counts of their master's page."""

    def __init__(self, port: int) -> None:
        self._port = port

    def counts(self) -> tuple[int, dict[str, int]]:
        """Return the number of requests, and of failures by their text; a slow response isn't a failure."""
        response = json.loads(fetch(self._port, "/stats/requests"))
        requests = sum(each["num_requests"] for each in response["stats"] if each["name"] != "Aggregated")
        failures = Counter[str]()  # the page counts each text for each kind of request
        for each in response["errors"]:
            if SLOW not in each["error"]:
                failures[each["error"]] += each["occurrences"]
        return requests, failures

    def wait(self, requests: int = MIN_REQUESTS) -> None:
        """Wait until this many more requests are answered."""
        began, _ = self.counts()
        eventually(lambda: self.counts()[0] >= began + requests, f"{requests} more requests")


@pytest.fixture
def load(cluster: Cluster) -> Iterator[Load]:
    """The running load; the fault that makes POST requests fail is disabled."""
    cluster.run("set", "env", "-n", APPLICATION, SERVER, "ALWAYS_SUCCEED=true")
    cluster.rolled_out(APPLICATION, SERVER)
    with cluster.forward(APPLICATION, "svc/load", 8089) as port:
        users = Load(port)
        users.wait()
        yield users


def requests_since(load: Load, before: tuple[int, dict[str, int]]) -> tuple[int, dict[str, int]]:
    """Return the requests since `before`, and the failures among them."""
    requests, failures = load.counts()
    more = {text: number - before[1].get(text, 0) for text, number in failures.items()}
    return requests - before[0], {text: number for text, number in more.items() if number}


def test_a_rolling_update_and_its_rollback_fail_no_request(cluster: Cluster, load: Load) -> None:
    """A new pod is ready before an old one stops, and a stopping pod answers the requests that still arrive."""
    before = load.counts()
    cluster.run("set", "env", "-n", APPLICATION, SERVER, f"OTEL_RESOURCE_ATTRIBUTES=update={time.time():.0f}")
    cluster.rolled_out(APPLICATION, SERVER)
    load.wait()
    cluster.run("rollout", "undo", "-n", APPLICATION, SERVER)
    cluster.rolled_out(APPLICATION, SERVER)
    load.wait()
    requests, failures = requests_since(load, before)
    print(f"rolling update and rollback: {requests} requests, failures {failures}")  # noqa: T201
    assert failures == {}


def test_scaling_to_three_servers_and_back_fails_no_request(cluster: Cluster, load: Load) -> None:
    """None fails when servers start or stop; users renew connections after a while, so the distribution is printed."""
    before = load.counts()
    cluster.run("scale", "-n", APPLICATION, SERVER, "--replicas=3")
    try:
        eventually(lambda: len(cluster.ready(APPLICATION, "mythical-server")) == 3, "three servers")
        load.wait()
        logs = [
            cluster.run("logs", "-n", APPLICATION, name).stdout
            for name in cluster.ready(APPLICATION, "mythical-server").values()
        ]
        print(f"three servers: {[text.count('request served') for text in logs]} requests")  # noqa: T201
    finally:
        cluster.run("scale", "-n", APPLICATION, SERVER, "--replicas=1")
    eventually(lambda: len(cluster.ready(APPLICATION, "mythical-server")) == 1, "one server")
    load.wait()
    requests, failures = requests_since(load, before)
    print(f"scaling to three and back: {requests} requests, failures {failures}")  # noqa: T201
    assert failures == {}


def test_evictions_wait_for_the_disruption_budget_and_fail_no_request(cluster: Cluster, load: Load) -> None:
    """One server at a time is evicted, as when nodes are drained: the next one only when a replacement is ready."""

    def evict(name: str) -> str:
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": APPLICATION}}
        path = f"/api/v1/namespaces/{APPLICATION}/pods/{name}/eviction"
        return cluster.run("create", "--raw", path, "-f", "-", check=False, given=json.dumps(eviction)).stderr

    before = load.counts()
    cluster.run("scale", "-n", APPLICATION, SERVER, "--replicas=3")
    try:
        eventually(lambda: len(cluster.ready(APPLICATION, "mythical-server")) == 3, "three servers")
        first, second, _ = cluster.ready(APPLICATION, "mythical-server").values()
        began = time.monotonic()
        assert evict(first) == ""
        assert "disruption budget" in evict(second)
        eventually(lambda: evict(second) == "", "eviction of the second server")
        seconds = time.monotonic() - began
        eventually(lambda: len(cluster.ready(APPLICATION, "mythical-server")) == 3, "three servers")
        load.wait()
    finally:
        cluster.run("scale", "-n", APPLICATION, SERVER, "--replicas=1")
    eventually(lambda: len(cluster.ready(APPLICATION, "mythical-server")) == 1, "one server")
    load.wait()
    requests, failures = requests_since(load, before)
    print(f"two servers evicted, the second after {seconds:.1f} s: {requests} requests, failures {failures}")  # noqa: T201
    assert failures == {}


def test_three_servers_wipe_the_tables_once(cluster: Cluster, load: Load) -> None:
    """The time of the last wipe is in the database, so only one of them does a wipe that is due."""

    def wipes() -> int:
        pods = cluster.ready(APPLICATION, "mythical-server").values()
        return sum(cluster.run("logs", "-n", APPLICATION, name).stdout.count("tables recreated") for name in pods)

    due = (
        """psql -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c "UPDATE mythical_wipes SET last = last - interval '2 days'\""""
    )
    cluster.run("scale", "-n", APPLICATION, SERVER, "--replicas=3")
    try:
        eventually(lambda: len(cluster.ready(APPLICATION, "mythical-server")) == 3, "three servers")
        before = wipes()
        cluster.run("exec", "-n", APPLICATION, "mythical-database-0", "--", "sh", "-c", due)
        eventually(lambda: wipes() > before, "wipe")
        load.wait()
        assert wipes() == before + 1
    finally:
        cluster.run("scale", "-n", APPLICATION, SERVER, "--replicas=1")


@pytest.mark.parametrize(
    ("namespace", "name"),
    [
        *((APPLICATION, f"mythical-{name}") for name in ("server", "requester", "recorder", "frontend", "workshop")),
        *((APPLICATION, f"mythical-{name}") for name in ("database", "queue")),
        (STACK, "alloy"),
    ],
)
def test_a_killed_pod_is_replaced_and_the_load_continues(
    cluster: Cluster, load: Load, namespace: str, name: str
) -> None:
    """The pod is deleted without its grace period; requests fail only while what serves them is missing."""
    before = load.counts()
    seconds = cluster.kill(namespace, name)
    load.wait()
    requests, failures = requests_since(load, before)
    print(f"{name} killed: ready after {seconds:.1f} s; {requests} requests, failures {failures}")  # noqa: T201
    if name not in ("mythical-server", "mythical-frontend", "mythical-database"):
        assert failures == {}


def test_rows_remain_after_the_database_pod_was_killed(cluster: Cluster, load: Load) -> None:
    """The volume remains, and Postgres recovers committed rows."""

    def rows() -> int:
        query = 'psql -U "$POSTGRES_USER" -d "$POSTGRES_DB" -Atc "SELECT count(*) FROM unicorn"'
        result = cluster.run("exec", "-n", APPLICATION, "mythical-database-0", "--", "sh", "-c", query, check=False)
        return int(result.stdout.strip() or 0)

    cluster.run("scale", "-n", APPLICATION, "deployment/mythical-requester", "--replicas=0")
    try:
        before = eventually(rows, "row")
        cluster.kill(APPLICATION, "mythical-database")
        after = eventually(rows, "row")
    finally:
        cluster.run("scale", "-n", APPLICATION, "deployment/mythical-requester", "--replicas=1")
    load.wait()
    print(f"rows before {before}, after {after}")  # noqa: T201
    # Users delete rows too, some of them while the pod is replaced.
    assert after >= before * 0.9


def test_confirmed_messages_are_recorded_after_the_broker_was_killed(cluster: Cluster, load: Load) -> None:
    """Messages wait in the queue without a recorder; none is lost when the broker is killed."""

    def waiting() -> int:
        text = cluster.run(
            *("exec", "-n", APPLICATION, "mythical-queue-0", "--", "rabbitmqctl", "-q", "list_queues", "messages"),
            check=False,
        ).stdout
        return sum(map(int, re.findall(r"^(\d+)$", text, re.MULTILINE)))

    load.wait(1)
    cluster.run("scale", "-n", APPLICATION, RECORDER, "--replicas=0")
    try:
        eventually(
            lambda: not cluster.get(APPLICATION, "pods", "-l", "app.kubernetes.io/name=mythical-recorder"), "end"
        )
        eventually(lambda: waiting() >= 10, "ten waiting messages")
        cluster.run("scale", "-n", APPLICATION, *PUBLISHERS, "--replicas=0")
        publishers = "app.kubernetes.io/name in (mythical-requester,mythical-frontend)"
        eventually(lambda: not cluster.get(APPLICATION, "pods", "-l", publishers), "end")
        before = waiting()
        cluster.kill(APPLICATION, "mythical-queue")
        after = eventually(waiting, "message")
    finally:
        cluster.run("scale", "-n", APPLICATION, RECORDER, *PUBLISHERS, "--replicas=1")
    print(f"waiting messages: before {before}, after {after}")  # noqa: T201
    assert after == before


@pytest.mark.usefixtures("backends")
@pytest.mark.parametrize("replicas", [2, 3])
def test_the_targets_of_a_lost_alloy_are_taken_over(cluster: Cluster, replicas: int) -> None:
    """Every target has samples again; the gap between two samples of each target is printed."""
    (alloy,) = cluster.get(STACK, "statefulset/alloy")
    before = alloy["spec"]["replicas"]
    lost = f"alloy-{replicas - 1}"

    def own(pod: str) -> str:
        with cluster.forward(STACK, f"pod/{pod}", 12345) as port:
            return fetch(port, "/metrics")

    def samples(stack: Backends, range_s: int) -> dict[str, list[float]]:
        """Return the times of the samples of each target, except that of the lost replica itself."""
        series = stack.promql(f'up{{group=~"mythical|infrastructure|pods",instance!~"{lost}:.*"}}[{range_s}s]')
        return {json.dumps(each["metric"], sort_keys=True): [time_s for time_s, _ in each["values"]] for each in series}

    cluster.run("scale", "-n", STACK, "statefulset/alloy", f"--replicas={replicas}")
    try:
        for name in ("alloy", "mimir"):
            cluster.rolled_out(STACK, f"statefulset/{name}")
        with cluster.forward(STACK, "svc/mimir", 9009) as port:
            stack = Backends(ports={"MIMIR_PORT": port})
            owned = eventually(lambda: total(own(lost), "prometheus_scrape_targets_gauge"), f"target of {lost}")
            eventually(lambda: total(own(lost), "cluster_node_peers", state="participant") == replicas, "cluster")
            # A minute with all replicas, so that every target has samples from before the loss.
            began = time.time()
            eventually(lambda: all(times[-1] > began + 30 for times in samples(stack, 60).values()), "samples of all")
            targets = set(samples(stack, 30))
            # It has no time to leave the cluster, and is not created again.
            cluster.run("scale", "-n", STACK, "statefulset/alloy", f"--replicas={replicas - 1}")
            cluster.run("delete", "pod", "-n", STACK, lost, "--grace-period=0", "--force", check=False)
            killed = time.time()

            def gaps() -> list[float]:
                found = {name: times for name, times in samples(stack, 600).items() if name in targets}
                if any(times[-1] <= killed + 30 for times in found.values()):
                    return []
                return sorted(
                    max(after - earlier for earlier, after in pairwise(times) if after > killed)
                    for times in found.values()
                )

            found = eventually(gaps, "new samples of every target")
    finally:
        cluster.run("scale", "-n", STACK, "statefulset/alloy", f"--replicas={before}")
    print(  # noqa: T201
        f"one of {replicas} replicas of Alloy lost, with {owned:.0f} targets: {len(found)} targets have samples again, "
        f"with gaps from {found[0]:.0f} to {found[-1]:.0f} s, median {found[len(found) // 2]:.0f} s"
    )
    assert len(found) == len(targets)
