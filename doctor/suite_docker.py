"""The suite with Docker, while it runs: every signal of every service, asked of the back end that keeps it."""

from collections.abc import Mapping
from functools import cached_property

from doctor import containers as docker
from doctor import fresh, targets
from doctor.alloy import Alloy
from doctor.ask import NoAnswer, ask
from doctor.containers import RUNNING, Container
from doctor.dotenv import port
from doctor.report import FRESH, LATE, MISSING, OFF, SENT, Cell, Fault, Report
from doctor.service import Service, within
from doctor.ways import PORTS, SERVICES, WAYS

HOST = "http://127.0.0.1"
# The layer with the Collector: it has no page that this machine can reach, and takes neither lines nor profiles.
COLLECTOR = "otel-collector"
PAST_COLLECTOR = ("logs", "profiles")
CLOUD = "endpoints-cloud.json"
NEWBORN_S = 45.0


class SuiteWithDocker:
    """Examines it; `told` is what compose was told, `boxes` the containers, none where Docker does not tell."""

    def __init__(self, told: Mapping[str, str], boxes: Mapping[str, Container]) -> None:
        self._told = told
        self._boxes = boxes
        self._services = {name: self._service(name) for name in SERVICES}

    def report(self) -> Report:
        """Ask for everything. Raises Unusable if a port in .env is none."""
        findings = docker.check(list(self._boxes.values()))
        if self._box("alloy"):
            findings += self._alloy.findings()
        findings += targets.findings(self._address("metrics"), self._boxes)
        cells = [self._cell(service, signal) for service in SERVICES for signal in WAYS]
        return Report("docker", findings, cells)

    def _service(self, name: str) -> Service:
        box = self._box(name)
        return Service(
            name,
            f"{HOST}:{port(self._told, PORTS[name])}",
            log=f"docker compose logs --tail 20 {name}",
            wake=f"docker compose up -d {name}; docker compose logs --tail 20 {name}",
            told=box.told if box else None,
            how="" if box is None or box.state == RUNNING else f"its container {box.words()}",
        )

    @cached_property
    def _alloy(self) -> Alloy:
        box = self._box("alloy")
        how = "" if box is None or box.state == RUNNING else f"its container {box.words()}"
        return Alloy.examine(f"{HOST}:{port(self._told, 'ALLOY_PAGES_PORT')}", how)

    def _box(self, name: str) -> Container | None:
        return self._boxes.get(name)

    def _cell(self, service: str, signal: str) -> Cell:
        if self._away(signal):
            return self._cell_of_another(service, signal)
        try:
            age = fresh.AGES[signal](self._address(signal), service)
        except (NoAnswer, KeyError, TypeError, AttributeError, ValueError):
            age = None  # somebody else may answer there; the hops say more
        if age is not None and age <= fresh.LATE_S[signal]:
            return Cell(service, signal, FRESH, age)
        return Cell(service, signal, MISSING if age is None else LATE, age, self._fault(service, signal))

    def _cell_of_another(self, service: str, signal: str) -> Cell:
        alloy = self._box("alloy")
        if alloy is None or not alloy.told.get("ALLOY_ENDPOINTS", "").endswith(CLOUD):
            return Cell(service, signal, OFF)
        fault = self._until_alloy(service, signal) or self._alloy.hands_on_not(WAYS[signal])
        return Cell(service, signal, MISSING if fault else SENT, None, fault)

    def _away(self, signal: str) -> bool:
        # A layer took the back end away: Pyroscope in the minimal one, all four in that of the cloud.
        return bool(self._boxes) and WAYS[signal].backend not in self._boxes

    def _address(self, signal: str) -> str:
        return f"{HOST}:{port(self._told, WAYS[signal].port)}"

    def _fault(self, service: str, signal: str) -> Fault:
        """Go along the signal's way and return the first hop that is broken."""
        one = self._services[service]
        return (
            self._until_alloy(service, signal)
            or self._not_kept(signal)
            or one.gives_up(signal)
            or self._not_handed_on(signal)
            or Fault(
                f"{service} → Alloy",
                "every hop seems well, and nothing came of late",
                f"is {WAYS[signal].told_by} of the service right? docker compose logs --tail 20 {service}",
            )
        )

    def _until_alloy(self, service: str, signal: str) -> Fault | None:
        young = self._young(service)
        return young or within(self._services, self._services[service], signal) or self._not_collected(signal)

    def _not_collected(self, signal: str) -> Fault | None:
        if collector := self._box(COLLECTOR):
            if signal in PAST_COLLECTOR or collector.state == RUNNING:
                return None
            said = f"{COLLECTOR} {collector.words()}"
            return Fault("service → Collector", said, f"docker compose logs --tail 20 {COLLECTOR}")
        return self._alloy.down() or self._alloy.takes_not(WAYS[signal])

    def _not_kept(self, signal: str) -> Fault | None:
        name, address = WAYS[signal].backend, self._address(signal)
        try:
            page = ask(f"{address}/ready")
            said = "" if page.status == 200 else f"it is not ready: {page.text.strip()[:80]}"  # noqa: PLR2004 - OK
        except NoAnswer as error:
            box = self._box(name)
            why = f"its container {box.words()}" if box and box.state != RUNNING else str(error)
            said = f"{name} does not answer at {address}: {why}"
        wake = f"docker compose up -d {name}; docker compose logs --tail 20 {name}"
        return Fault(f"collector → {name}", said, wake) if said else None

    def _not_handed_on(self, signal: str) -> Fault | None:
        return None if self._box(COLLECTOR) else self._alloy.hands_on_not(WAYS[signal])

    def _young(self, service: str) -> Fault | None:
        box = self._box(service)
        if box is None or box.state != RUNNING or box.running_s > NEWBORN_S:
            return None
        return Fault(service, f"it started {box.running_s:.0f} s ago", "wait half a minute, and ask again")
