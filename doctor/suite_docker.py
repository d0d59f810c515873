"""Checks of the running suite with Docker: every signal of every service, queried from the backend that stores it."""

import json
from collections.abc import Mapping
from functools import cached_property

from common.core.address import is_local
from doctor import backends
from doctor import containers as docker
from doctor.alloy import Alloy
from doctor.containers import RUNNING, Container
from doctor.env_files import port
from doctor.report import MISSING, OFF, SENT, Cell, Fault, Report
from doctor.service import Service, service_fault
from doctor.signal_paths import PATHS
from doctor.surroundings import check_database, check_files, check_selinux
from tools import suite
from tools.probe import Diagnosis, target

HOST = "http://127.0.0.1"
# The layer with the Collector: it publishes no endpoint to query, and logs and profiles do not go through it.
COLLECTOR = "otel-collector"
NOT_THROUGH_COLLECTOR = ("logs", "profiles")
CLOUD = "endpoints-cloud.json"
JUST_STARTED_S = 45.0


class SuiteWithDocker:
    """Checks the suite; `variables` are those of compose, `boxes` the containers, empty if Docker does not answer."""

    def __init__(self, variables: Mapping[str, str], boxes: Mapping[str, Container]) -> None:
        self._variables = variables
        self._boxes = boxes
        self._services = {service.name: self._service(service) for service in suite.SERVICES}
        self._problems: dict[str, dict[str, Diagnosis]] = {}  # with their targets, by service

    def report(self) -> Report:
        """Check everything. Raises Unusable if a port in .env is invalid."""
        findings = docker.check(list(self._boxes.values()))
        if "alloy" in self._boxes:
            findings += self._alloy.findings()
        findings += backends.failed_targets(self._backend_url("metrics"), self._boxes)
        findings += [*check_files(), *check_selinux(), *check_database(self._variables)]
        return Report("docker", findings, [self._cell(name, signal) for name in self._services for signal in PATHS])

    def _service(self, service: suite.Service) -> Service:
        name = service.name
        box = self._boxes.get(name)
        return Service(
            name,
            f"{HOST}:{port(self._variables, service.port_variable)}",
            log=f"docker compose logs --tail 20 {name}",
            start=_start(name),
            environment=box.environment if box else None,
            container_state=self._stopped(name),
        )

    @cached_property
    def _alloy(self) -> Alloy:
        return Alloy.examine(f"{HOST}:{port(self._variables, 'ALLOY_PAGES_PORT')}", self._stopped("alloy"))

    def _stopped(self, name: str) -> str:
        """Return the state of a container that does not run, else an empty string."""
        box = self._boxes.get(name)
        return "" if box is None or box.state == RUNNING else f"its container {box.describe()}"

    def _backend_url(self, signal: str) -> str:
        return f"{HOST}:{port(self._variables, PATHS[signal].port_variable)}"

    def _cell(self, service: str, signal: str) -> Cell:
        # A layer removes backends: the minimal one Pyroscope, that for Grafana Cloud all four.
        if self._boxes and PATHS[signal].backend not in self._boxes:
            return self._cell_without_backend(service, signal)
        return backends.cell(self._backend_url(signal), service, signal, lambda: self._fault(service, signal))

    def _cell_without_backend(self, service: str, signal: str) -> Cell:
        alloy = self._boxes.get("alloy")
        box = self._boxes.get(service)
        if box and box.environment.get("OTEL_EXPORTER_OTLP_ENDPOINT") and signal != "profiles":
            # docker-compose-source.yml: the names and files of the target are those inside the container.
            if service not in self._problems:
                self._problems[service] = json.loads(docker.run("exec", service, "python", "-m", "tools.probe") or "{}")
            fault = (
                self._just_started(service)
                or service_fault(self._services, self._services[service], signal)
                or self._services[service].undelivered(signal, self._problems[service])
            )
            return Cell(service, signal, MISSING if fault else SENT, None, fault)
        if alloy is None or not alloy.environment.get("ALLOY_ENDPOINTS", "").endswith(CLOUD):
            return Cell(service, signal, OFF)
        fault = (
            self._fault_up_to_collector(service, signal)
            or self._alloy.exporter_fault(PATHS[signal])
            or self._alloy.retry_fault(PATHS[signal], delivered_before=False)
        )
        return Cell(service, signal, MISSING if fault else SENT, None, fault)

    def _fault(self, service: str, signal: str) -> Fault | None:
        """Return the first broken stage on the signal's path; None if there is none and the service may be idle."""
        return (
            self._fault_up_to_collector(service, signal)
            or self._backend_fault(signal)
            or self._services[service].dropped(signal)
            or (None if COLLECTOR in self._boxes else self._alloy.exporter_fault(PATHS[signal]))
            or self._outside(service, signal)
            or (None if COLLECTOR in self._boxes else self._alloy.retry_fault(PATHS[signal], delivered_before=True))
            or self._without_cause(service, signal)
        )

    def _without_cause(self, service: str, signal: str) -> Fault | None:
        if signal != "metrics" and service not in suite.SERVICE_NAMES:
            return None
        return self._services[service].unexplained(signal)

    def _outside(self, service: str, signal: str) -> Fault | None:
        """Return a fault if the service pushes to an address outside the suite, which can be probed from here."""
        environment = self._services[service].environment
        if environment is None or is_local(target(signal, environment).address[0]):
            return None
        return self._services[service].misdirected(signal, ())

    def _fault_up_to_collector(self, service: str, signal: str) -> Fault | None:
        return (
            self._just_started(service)
            or service_fault(self._services, self._services[service], signal)
            or self._collector_fault(signal)
        )

    def _collector_fault(self, signal: str) -> Fault | None:
        if collector := self._boxes.get(COLLECTOR):
            if signal in NOT_THROUGH_COLLECTOR or collector.state == RUNNING:
                return None
            said = f"{COLLECTOR} {collector.describe()}"
            return Fault("service → Collector", said, f"docker compose logs --tail 20 {COLLECTOR}")
        return self._alloy.down() or self._alloy.receiver_fault(PATHS[signal])

    def _backend_fault(self, signal: str) -> Fault | None:
        name = PATHS[signal].backend
        return backends.not_ready(name, self._backend_url(signal), self._stopped(name), _start(name))

    def _just_started(self, service: str) -> Fault | None:
        box = self._boxes.get(service)
        if box is None or box.state != RUNNING or box.running_s > JUST_STARTED_S:
            return None
        return Fault(service, f"it started {box.running_s:.0f} s ago", "wait half a minute, and run the doctor again")


def _start(name: str) -> str:
    return f"docker compose up -d {name}; docker compose logs --tail 20 {name}"
