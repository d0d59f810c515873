"""The test bed: real servers, the gateway, and the services as processes, for the duration of a run."""

import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from local.ports import LOOPBACK, free_port
from local.processes.process import Process
from local.servers.postgres import Postgres
from local.servers.rabbitmq import RabbitMQ
from tools.query import is_up

START_S = 60.0
STOP_S = 10.0

# All four signals off: what is left is Flask, the driver and the database.
OFF = {"INSTRUMENTATION": "off", "LOG_LEVEL": "ERROR"}


class TestBed:
    """Starts Postgres, RabbitMQ and the gateway; `service` runs a service against them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ending = ExitStack()
        self.postgres = Postgres(folder / "postgres")
        self.rabbitmq = RabbitMQ(folder / "rabbitmq")
        self._on: dict[str, str] = {}
        self.ports: dict[str, int] = {}  # of the gateway
        self._gateway: Process | None = None
        self.otlp_http = self.gateway_page = 0  # ports: OTLP over HTTP, and the page with the JSON API

    def __enter__(self) -> Self:
        self._ending.enter_context(self.postgres)
        self._ending.enter_context(self.rabbitmq)
        flags = ("--otlp-grpc", "--otlp-http", "--loki", "--pyroscope", "--faro", "--page")
        gateway = self._process("gateway", "local.gateway", [part for flag in flags for part in (flag, "0")], {})
        gateway.launch()
        self._gateway = gateway
        self._ending.callback(gateway.stop, STOP_S)
        gateway.wait_ready(lambda: "ready {" in gateway.tail(), START_S)
        ready = re.search(r"^ready (\{.*\})$", gateway.tail(), re.MULTILINE)
        self.ports = ports = json.loads(ready[1]) if ready else {}
        self.otlp_http, self.gateway_page = int(ports["otlp_http"]), int(ports["page"])
        self._on = {
            "TRACING_COLLECTOR_HOST": LOOPBACK,
            "TRACING_COLLECTOR_PORT": str(ports["otlp_grpc"]),
            "LOGS_TARGET": f"http://{LOOPBACK}:{ports['loki']}/loki/api/v1/push",
            "PROFILE_COLLECTOR_HOST": LOOPBACK,
            "PROFILE_COLLECTOR_PORT": str(ports["pyroscope"]),
        }
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    @property
    def gateway_pid(self) -> int:
        """The gateway's process id, 0 when it does not run."""
        return (self._gateway.pid if self._gateway else None) or 0

    @contextmanager
    def service(self, name: str, *, signals: bool, **env: str) -> Iterator[tuple[int, int]]:
        """Run services.<name>; yield its process id and its port."""
        port = free_port()
        settings = {
            "HTTP_HOST": LOOPBACK,
            "HTTP_PORT": str(port),
            "MYTHICAL_DATABASE_HOST": LOOPBACK,
            "MYTHICAL_DATABASE_HOST_PORT": str(self.postgres.port),
            "MYTHICAL_QUEUE_HOST": LOOPBACK,
            "MYTHICAL_QUEUE_HOST_PORT": str(self.rabbitmq.port),
            **(self._on if signals else OFF),
            **env,
        }
        process = self._process(f"{name}-{port}", f"services.{name}", [], settings)
        process.launch()
        try:
            process.wait_ready(lambda: is_up(f"http://{LOOPBACK}:{port}/readyz"), START_S)
            yield process.pid or 0, port
        finally:
            process.stop(STOP_S)

    def _process(self, name: str, module: str, arguments: list[str], settings: dict[str, str]) -> Process:
        return Process(
            name,
            [sys.executable, "-m", module, *arguments],
            log=self.folder / f"{name}.log",
            record=self.folder / f"{name}.pid",
            mark=module,
            environ=os.environ | settings,
        )
