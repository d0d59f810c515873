"""The run without Docker, while it runs: what the gateway says has arrived."""

from collections.abc import Mapping

from common.core.env import Env
from doctor.report import BROKEN, FRESH, LATE, MISSING, Cell, Fault, Finding, Report
from doctor.service import Service, within
from doctor.ways import SERVICES, WAYS
from local.display.summary import FRESH_S, Summary, fetch
from local.ports import LOOPBACK, Ports

WAKE = "end make demo and start it anew"


class SuiteWithoutDocker:
    """Examines it, at the ports that the DEMO_ variables say. Raises SettingsError or LocalError if they are none."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        ports = Ports.read(Env(environ))
        self.page = f"http://{LOOPBACK}:{ports['gateway page']}"
        self._services = {name: self._service(name, ports) for name in SERVICES}

    def summary(self) -> Summary | None:
        """Ask the gateway; None if it does not run."""
        return fetch(self.page)

    def report(self) -> Report:
        """Look at each signal and each hop."""
        summary = self.summary()
        if summary is None:
            gone = Finding(
                "gateway", f"does not answer at {self.page}", BROKEN, "make demo, and see var/log/gateway.log"
            )
            return Report("local", [gone])
        hops = [
            Finding(
                f"{one} → {other}", "no span shows this hop", BROKEN, f"the traces at {self.page} show where they end"
            )
            for one, other in summary.missing_hops()
        ]
        return Report("local", hops, [self._cell(summary, service, signal) for service in SERVICES for signal in WAYS])

    def _service(self, name: str, ports: Ports) -> Service:
        short = name.removeprefix("mythical-")
        log = f"var/log/{short}.log"
        return Service(name, f"http://{LOOPBACK}:{ports[short]}", log=log, wake=f"see {log}; {WAKE}")

    def _cell(self, summary: Summary, service: str, signal: str) -> Cell:
        seen = summary.cells.get((service, signal))
        if seen and seen.age_s <= FRESH_S[signal]:
            return Cell(service, signal, FRESH, seen.age_s)
        fault = self._fault(service, signal)
        return Cell(service, signal, LATE, seen.age_s, fault) if seen else Cell(service, signal, MISSING, None, fault)

    def _fault(self, service: str, signal: str) -> Fault:
        one = self._services[service]
        return (
            within(self._services, one, signal)
            or one.gives_up(signal)
            or Fault(
                f"{service} → gateway",
                "the service is well, and nothing came of late",
                f"is {WAYS[signal].told_by} set in the shell? Its log: {one.log}",
            )
        )
