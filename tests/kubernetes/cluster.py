"""A cluster, addressed by its context, and its operations."""

import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[2]
APPLICATION, STACK = "mythical", "monitoring-stack"
PART_OF = "app.kubernetes.io/part-of=mythical-beasts"
DEADLINE_S = 300.0

T = TypeVar("T")


def eventually(poll: Callable[[], T], what: str, deadline_s: float = DEADLINE_S) -> T:
    """Return the first truthy result of `poll`; after the deadline, fail with what was expected."""
    end = time.monotonic() + deadline_s
    while not (result := poll()):
        assert time.monotonic() < end, f"within {deadline_s:g} s there was no {what}; the last result was {result!r}"
        time.sleep(0.5)
    return result


@dataclass(frozen=True)
class Cluster:
    """The cluster of a context of kubectl."""

    context: str

    def run(self, *arguments: str, check: bool = True, given: str = "") -> subprocess.CompletedProcess[str]:
        """Run kubectl with `given` as its standard input."""
        command = ["kubectl", "--context", self.context, *arguments]
        result = subprocess.run(command, capture_output=True, text=True, check=False, input=given)  # noqa: S603
        assert result.returncode == 0 or not check, f"{' '.join(command)}: {result.stderr.strip()}"
        return result

    def get(self, namespace: str, *what: str) -> list[dict[str, Any]]:
        """Return objects of a namespace."""
        response = json.loads(self.run("get", "-n", namespace, *what, "-o", "json").stdout)
        return list(response["items"]) if "items" in response else [response]

    def ready(self, namespace: str, name: str) -> dict[str, str]:
        """Return the pods of a workload that are ready and aren't being deleted: their names by UID."""
        return {
            pod["metadata"]["uid"]: pod["metadata"]["name"]
            for pod in self.get(namespace, "pods", "-l", f"app.kubernetes.io/name={name}")
            if "deletionTimestamp" not in pod["metadata"]
            and any(
                each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", [])
            )
        }

    def rolled_out(self, namespace: str, workload: str) -> None:
        """Wait until a workload has its replicas."""
        self.run("rollout", "status", "-n", namespace, workload, f"--timeout={DEADLINE_S:g}s")

    def kill(self, namespace: str, name: str) -> float:
        """Delete a pod at once, without its grace period; return the seconds until as many pods are ready again."""
        before = self.ready(namespace, name)
        deleted = next(iter(before))
        began = time.monotonic()
        self.run("delete", "pod", "-n", namespace, before[deleted], "--grace-period=0", "--force")

        def replaced() -> bool:
            now = self.ready(namespace, name)
            return deleted not in now and len(now) >= len(before)

        eventually(replaced, f"pod of {name} in place of {before[deleted]}")
        return time.monotonic() - began

    @contextmanager
    def forward(self, namespace: str, target: str, port: int) -> Iterator[int]:
        """Forward a port of this machine to one of the cluster; yield its number."""
        command = ["kubectl", "--context", self.context, "port-forward", "-n", namespace, target, f":{port}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:  # noqa: S603
            try:
                assert process.stdout
                line = process.stdout.readline()
                found = re.search(r"127\.0\.0\.1:(\d+)", line)
                assert found, f"{' '.join(command)} printed {line!r}"
                yield int(found[1])
            finally:
                process.terminate()


def fetch(port: int, path: str) -> str:
    """Return the body of a response of a forwarded port."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as response:
        text: str = response.read().decode()
        return text


def deploy(context: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run deploy.sh."""
    command = [str(ROOT / "kubernetes/deploy.sh"), "--context", context, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)  # noqa: S603
