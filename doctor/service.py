"""Checks of a service: it is up and ready, sends the signal, has input, and drops nothing."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from common.core.env import Env, SettingsError
from common.telemetry.settings import instrumentation
from doctor.metrics_text import total
from doctor.report import BROKEN, Fault, Finding
from doctor.signal_paths import PATHS
from tools import suite
from tools.probe import Diagnosis, probe, target
from tools.query import OK, Answer, NoAnswer, QueryError, send

# Services that are idle while the requester sends nothing, and what they wait for.
INPUT_OF = {service.name: service.input for service in suite.SERVICES if service.input and service.busy}
REQUESTER = "mythical-requester"
# Counters of dropped data on its /metrics endpoint, by signal. docs/reference/telemetry.md lists the names.
DROP_COUNTERS: Mapping[str, tuple[tuple[str, dict[str, str]], ...]] = {
    "traces": (
        ("otel_sdk_processor_span_processed_total", {"error_type": "*"}),
        ("otel_sdk_exporter_span_exported_total", {"error_type": "*"}),
    ),
    "logs": (("mythical_log_lines_dropped_total", {}),),
}
# Settings that switch a signal off, with the value that does so. An empty address is such a value.
SWITCHED_OFF: Mapping[str, tuple[tuple[str, str], ...]] = {
    "traces": (("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")),
    "metrics": (("OTEL_SDK_DISABLED", "true"), ("OTEL_METRICS_EXPORTER", "none")),
    "logs": (("OTEL_LOGS_EXPORTER", "console"), ("LOGS_TARGET", "")),
    "profiles": (("OTEL_SDK_DISABLED", "true"), ("PROFILE_COLLECTOR_HOST", "")),
}


# What a service does not send on a rung of INSTRUMENTATION, and why.
NOT_MADE = {"off": tuple(PATHS), "ebpf": tuple(PATHS), "zero-code": ("profiles",)}
NOT_MADE_BY = {
    "off": "the service sends nothing",
    "ebpf": "Beyla sends for the service, as beyla-mythical-…; it needs docker-compose-beyla.yml",
    "zero-code": "nothing takes profiles",
}


@dataclass
class Service:
    """A service: its URL, its environment variables (None if unknown), and where to read its log.

    `start` is the remedy if it does not run. Each endpoint is queried once.
    """

    name: str
    address: str
    log: str
    start: str
    environment: Mapping[str, str] | None = None
    container_state: str = ""
    _pages: dict[str, Answer | str] = field(default_factory=dict)

    def page(self, path: str) -> Answer | str:
        """Return the response of an endpoint, or the error text."""
        if path not in self._pages:
            try:
                self._pages[path] = send(self.address + path)
            except NoAnswer as error:
                self._pages[path] = str(error)
        return self._pages[path]

    def unexplained(self, signal: str) -> Fault:
        """Return the fault if no check finds why a signal of the service is missing."""
        said = "all checks pass, but no data has arrived recently"
        return Fault(f"{self.name} → Alloy", said, f"check {self.variable(signal)}; {self.log}")

    def down(self) -> Fault | None:
        """Return a fault if it does not answer."""
        page = self.container_state or self.page("/healthz")
        if isinstance(page, Answer) and page.status == OK:
            return None
        why = page if isinstance(page, str) else f"status {page.status}"
        return Fault(self.name, f"it does not answer at {self.address}: {why}", self.start)

    def not_ready(self) -> Fault | None:
        """Return a fault that names the missing dependencies if it is not ready."""
        page = self.page("/readyz")
        if isinstance(page, str) or page.status == OK:
            return None
        try:
            waits = ", ".join(f"{name} ({why})" for name, why in page.json()["missing"].items())
        except (QueryError, KeyError, AttributeError):
            waits = page.text[:60]
        return Fault(self.name, f"it is not ready: it waits for {waits}", f"fix that dependency; its log: {self.log}")

    def switched_off(self, signal: str) -> Fault | None:
        """Return a fault if a setting switches the signal off."""
        if self.environment is None:
            return None
        with suppress(SettingsError):
            rung = instrumentation(Env(self.environment), self.name)
            if signal in NOT_MADE.get(rung, ()):
                said = f"with INSTRUMENTATION={rung}, {NOT_MADE_BY[rung]}"
                return Fault(f"{self.name} → collector", said, "set INSTRUMENTATION=fast")
        for name, value in SWITCHED_OFF[signal]:
            if name == "LOGS_TARGET" and self.variable(signal) != name:
                continue  # the lines go by OTLP
            if self.environment.get(name, "").strip().lower() == value:
                return Fault(f"{self.name} → collector", f"{name}={value} switches it off", f"change {name}")
        return None

    def undelivered(self, signal: str, problems: Mapping[str, Diagnosis]) -> Fault | None:
        """Return a fault if its OTLP target cannot work; `problems` are those of otlp_problems(), by signal."""
        if signal not in problems:
            return None
        said, remedy = problems[signal]
        return Fault(f"{self.name} → collector", said, remedy)

    def dropped(self, signal: str) -> Fault | None:
        """Return a fault if its own counters report dropped data."""
        page = self.page("/metrics")
        if isinstance(page, str):
            return None
        for name, labels in DROP_COUNTERS.get(signal, ()):
            if lost := total(page.text, name, **labels):
                said = f"it dropped {lost:.0f} ({name}): the collector does not accept them fast enough"
                return Fault(f"{self.name} → collector", said, f"check {self.variable(signal)}; its log: {self.log}")
        return None

    def variable(self, signal: str) -> str:
        """Return the variable in effect that says where the signal goes."""
        return PATHS[signal].target_variable if self.environment is None else target(signal, self.environment).variable

    def misdirected(self, signal: str, addresses: Collection[tuple[str, int]]) -> Fault | None:
        """Return a fault if a push like its own fails, or goes to none of `addresses`, where the suite receives."""
        if self.environment is None:
            return None
        at = target(signal, self.environment)
        elsewhere = f"{at.shown} is not where the suite receives {signal}", f"unset {at.variable}"
        if not (found := probe(at, self.environment) or (None if at.address in addresses else elsewhere)):
            return None
        said, remedy = found
        return Fault(f"{self.name} → {at.address[0]}", said, f"{remedy}; then restart {self.name}; its log: {self.log}")


Services = Mapping[str, Service]


def idle_upstream(services: Services, service: Service, signal: str) -> Fault | None:
    """Return a fault if the service is idle because the requester sends no requests."""
    if signal == "metrics" or service.name not in INPUT_OF:
        return None
    if fault := services[REQUESTER].down() or services[REQUESTER].not_ready():
        hop = f"{REQUESTER} → {service.name}"
        return Fault(hop, f"the service is idle: it receives no {INPUT_OF[service.name]}; {fault.said}", fault.remedy)
    return None


def occasional(services: Services) -> list[Finding]:
    """Return a finding for each service that is down or not ready and has no constant traffic by which to notice it."""
    faults = [
        services[service.name].down() or services[service.name].not_ready()
        for service in suite.SERVICES
        if not service.busy
    ]
    return [Finding(fault.hop, fault.said, BROKEN, fault.remedy) for fault in faults if fault]


def service_fault(services: Services, service: Service, signal: str) -> Fault | None:
    """Return the first fault on the path up to the service's exporter."""
    return (
        service.down()
        or service.switched_off(signal)
        or service.not_ready()
        or idle_upstream(services, service, signal)
    )
