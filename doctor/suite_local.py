"""Checks of a running `make demo`: every signal of every service, as reported by the local gateway."""

from collections.abc import Mapping
from itertools import product

from common.core.env import Env
from doctor.report import BROKEN, FRESH, LATE, MISSING, OFF, SENT, Cell, Fault, Finding, Report
from doctor.service import Service, occasional, service_fault
from doctor.signal_paths import PATHS
from doctor.surroundings import check_shell
from local.display.summary import FRESH_S, Summary, fetch
from local.ports import LOOPBACK, Ports, environment_of
from local.state import log_folder, short
from tools.probe import Diagnosis, otlp_problems
from tools.suite import SERVICE_NAMES, SERVICES

RESTART = "stop make demo and start it again"
RECEIVERS = ("OTLP over gRPC", "OTLP over HTTP", "Loki push", "Pyroscope push")


class SuiteWithoutDocker:
    """Checks the suite at the ports in the DEMO_ variables. Raises SettingsError or LocalError if one is invalid."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        ports = Ports.read(Env(environ))
        self.page = f"http://{LOOPBACK}:{ports['gateway page']}"
        # The variables that have an effect are those of the shell that started the demo, not of this one.
        environment = environment_of(ports["gateway page"])
        self._logs = short(log_folder(environ if environment is None else environment))
        self._services = {service.name: self._service(service.name, ports) for service in SERVICES}
        environments = [service.environment or {} for service in self._services.values()]
        self._target = next((each for each in environments if each.get("DEMO_COLLECTOR")), None)
        self._receivers = {(host, ports[name]) for name in RECEIVERS for host in (LOOPBACK, "localhost")}

    def summary(self) -> Summary | None:
        """Return the gateway's summary; None if it does not run."""
        return fetch(self.page)

    def runs(self) -> bool:
        """Return whether a demo runs: its gateway answers, or its services send to DEMO_COLLECTOR."""
        return self._target is not None or self.summary() is not None

    def report(self) -> Report:
        """Check each signal and each hop between services."""
        findings = [*check_shell(self._environ), *occasional(self._services)]
        if self._target is not None:
            return Report("local", findings, self._sent(otlp_problems(self._target)))
        summary = self.summary()
        if summary is None:
            said = f"does not answer at {self.page}"
            return Report("local", [Finding("gateway", said, BROKEN, f"make demo, and see {self._logs}/gateway.log")])
        remedy = f"the traces at {self.page} show where they end"
        hops = [
            Finding(f"{one} → {other}", "no span shows this hop", BROKEN, remedy)
            for one, other in summary.missing_hops()
        ]
        return Report(
            "local",
            [*findings, *hops],
            [self._cell(summary, name, signal) for name in SERVICE_NAMES for signal in PATHS],
        )

    def _sent(self, problems: Mapping[str, Diagnosis]) -> list[Cell]:
        """Return the cells of a demo without a gateway, of which nothing shows what arrived."""
        cells = []
        for service, signal in product((self._services[name] for name in SERVICE_NAMES), PATHS):
            if signal == "profiles":
                cells.append(Cell(service.name, signal, OFF))
                continue
            fault = service_fault(self._services, service, signal) or service.undelivered(signal, problems)
            cells.append(Cell(service.name, signal, MISSING if fault else SENT, None, fault))
        return cells

    def _cell(self, summary: Summary, service: str, signal: str) -> Cell:
        seen = summary.cells.get((service, signal))
        if seen and seen.age_s <= FRESH_S[signal]:
            return Cell(service, signal, FRESH, seen.age_s)
        fault = self._fault(service, signal)
        return Cell(service, signal, LATE, seen.age_s, fault) if seen else Cell(service, signal, MISSING, None, fault)

    def _fault(self, name: str, signal: str) -> Fault:
        service = self._services[name]
        return (
            service_fault(self._services, service, signal)
            or service.misdirected(signal, self._receivers)
            or service.dropped(signal)
            or Fault(
                f"{name} → gateway",
                "all checks of the service pass, but no data has arrived recently",
                f"check {service.variable(signal)} in the shell of make demo; its log: {service.log}",
            )
        )

    def _service(self, name: str, ports: Ports) -> Service:
        part = name.removeprefix("mythical-")
        log, port = f"{self._logs}/{part}.log", ports[part]
        return Service(
            name,
            f"http://{LOOPBACK}:{port}",
            log=log,
            start=f"see {log}; {RESTART}",
            environment=environment_of(port),
        )
