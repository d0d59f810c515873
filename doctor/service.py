"""The hops within a service: it is up, it is ready, it is told to send, it has something to tell, it loses nothing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from doctor.ask import NoAnswer, Page, ask, total
from doctor.report import Fault
from doctor.ways import FED, WAYS

OK = 200
REQUESTER = "mythical-requester"
# What its own page counts of what it had to give up, by signal. docs/reference/telemetry.md has the names.
GIVEN_UP: Mapping[str, tuple[tuple[str, dict[str, str]], ...]] = {
    "traces": (
        ("otel_sdk_processor_span_processed_total", {"error_type": "*"}),
        ("otel_sdk_exporter_span_exported_total", {"error_type": "*"}),
    ),
    "logs": (("mythical_log_lines_dropped_total", {}),),
}
# Settings by which a signal is not sent, with the value that does it. Empty: nothing says where to.
SWITCHED_OFF: Mapping[str, tuple[tuple[str, str], ...]] = {
    "traces": (("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")),
    "metrics": (("OTEL_SDK_DISABLED", "true"), ("OTEL_METRICS_EXPORTER", "none")),
    "logs": (("LOGS_TARGET", ""),),
    "profiles": (("OTEL_SDK_DISABLED", "true"), ("PROFILE_COLLECTOR_HOST", "")),
}


@dataclass
class Service:
    """A service: where it answers, what it was told (None if nobody knows), and where to read its log.

    `wake` is what to do if it does not run. Each page is asked for once.
    """

    name: str
    address: str
    log: str
    wake: str
    told: Mapping[str, str] | None = None
    how: str = ""
    _pages: dict[str, Page | str] = field(default_factory=dict)

    def page(self, path: str) -> Page | str:
        """Return one of its pages, or why there is none."""
        if path not in self._pages:
            try:
                self._pages[path] = ask(self.address + path)
            except NoAnswer as error:
                self._pages[path] = str(error)
        return self._pages[path]

    def down(self) -> Fault | None:
        """Report that it does not answer."""
        page = self.page("/healthz")
        if isinstance(page, Page) and page.status == OK:
            return None
        why = self.how or (page if isinstance(page, str) else f"status {page.status}")
        return Fault(self.name, f"it does not answer at {self.address}: {why}", self.wake)

    def not_ready(self) -> Fault | None:
        """Report what it waits for."""
        page = self.page("/readyz")
        if isinstance(page, str) or page.status == OK:
            return None
        try:
            waits = ", ".join(f"{name} ({why})" for name, why in page.json()["missing"].items())
        except (NoAnswer, KeyError, AttributeError):
            waits = page.text[:60]
        return Fault(self.name, f"it is not ready: it waits for {waits}", f"see to that; its log: {self.log}")

    def not_told(self, signal: str) -> Fault | None:
        """Report a setting by which it does not send the signal."""
        for name, value in SWITCHED_OFF[signal] if self.told is not None else ():
            if (self.told or {}).get(name, "").strip().lower() == value:
                return Fault(f"{self.name} → collector", f"{name}={value} in its settings", f"set {name} otherwise")
        return None

    def gives_up(self, signal: str) -> Fault | None:
        """Report what it dropped, by its own counters."""
        page = self.page("/metrics")
        if isinstance(page, str):
            return None
        for name, labels in GIVEN_UP.get(signal, ()):
            if lost := total(page.text, name, **labels):
                said = f"it gave up {lost:.0f} ({name}): nobody takes them fast enough"
                return Fault(f"{self.name} → collector", said, f"check {WAYS[signal].told_by}; its log: {self.log}")
        return None


Services = Mapping[str, Service]
Probe = Callable[[], Fault | None]


def unfed(services: Services, service: Service, signal: str) -> Fault | None:
    """Report that a service has nothing to tell, because the requester makes no requests."""
    if signal == "metrics" or service.name not in FED:
        return None
    if fault := services[REQUESTER].down() or services[REQUESTER].not_ready():
        hop = f"{REQUESTER} → {service.name}"
        return Fault(hop, f"nothing to tell: there are no {FED[service.name]}; {fault.said}", fault.remedy)
    return None


def within(services: Services, service: Service, signal: str) -> Fault | None:
    """Return the first fault up to where the service hands the signal over."""
    return service.down() or service.not_told(signal) or service.not_ready() or unfed(services, service, signal)
