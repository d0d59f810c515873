"""The gateway and the services as separate processes, for the integration tests."""

import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import pytest

from local.ports import LOOPBACK
from local.processes.process import Process

DEADLINE_S = 60.0
# A service has five seconds to drain and flush; the rest is for a busy machine. Unbounded work would exceed it:
# exporters, for example, retry for a minute.
STOP_S = 30.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 0.5

Found = TypeVar("Found")


def eventually(poll: Callable[[], Found], deadline_s: float = DEADLINE_S, what: str = "") -> Found:
    """Return the first truthy result of `poll`; fail the test if there is none within `deadline_s`.

    The pauses grow: each look costs CPU time, which other tests need.
    """
    end, pause_s = time.monotonic() + deadline_s, FIRST_PAUSE_S
    while not (found := poll()):
        if time.monotonic() > end:
            pytest.fail(f"{what or 'nothing'} within {deadline_s:.0f} s; last result: {found!r}")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.3, LONGEST_PAUSE_S)
    return found


class Gateway:
    """The gateway as a process, and its query API."""

    def __init__(self, process: Process, ports: dict[str, int]) -> None:
        self.process = process
        self.ports = ports
        self.page = f"http://{LOOPBACK}:{ports['page']}"

    @property
    def settings(self) -> dict[str, str]:
        """The environment of a service that sends all four signals to this gateway, with short intervals."""
        return {
            "TRACING_COLLECTOR_HOST": LOOPBACK,
            "TRACING_COLLECTOR_PORT": str(self.ports["otlp_grpc"]),
            "LOGS_TARGET": f"http://{LOOPBACK}:{self.ports['loki']}/loki/api/v1/push",
            "PROFILE_COLLECTOR_HOST": LOOPBACK,
            "PROFILE_COLLECTOR_PORT": str(self.ports["pyroscope"]),
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
        }

    def get(self, path: str, **query: object) -> Any:
        """Return the JSON of the response to GET /api/`path`."""
        parameters = f"?{urlencode(query)}" if query else ""
        with urllib.request.urlopen(f"{self.page}/api/{path}{parameters}", timeout=60) as response:  # noqa: S310 - a local gateway
            return json.load(response)

    def poll(self, look: Callable[["Gateway"], Found], deadline: float = DEADLINE_S) -> Found:
        """Return the first truthy result of `look(gateway)`; fail the test if there is none within `deadline` s."""
        return eventually(lambda: look(self), deadline, "the gateway did not receive the expected data")


class Service:
    """A service as a process, reachable at `base_url`."""

    def __init__(self, process: Process, base_url: str) -> None:
        self.process = process
        self.base_url = base_url
        self.ended_by_test = False

    @property
    def port(self) -> int:
        """The port of the service."""
        return urlsplit(self.base_url).port or 80

    def stop(self) -> int | None:
        """Send SIGTERM and return the exit code, which the test then has to check."""
        self.ended_by_test = True
        return self.process.stop(STOP_S)

    def kill(self) -> None:
        """Kill it with SIGKILL, like a crash."""
        self.ended_by_test = True
        self.process.kill()
