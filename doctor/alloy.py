"""Alloy's state: readiness, health of its components, and what they rejected and dropped."""

from dataclasses import dataclass
from typing import NamedTuple

from doctor.metrics_text import total
from doctor.report import BROKEN, Fault, Finding
from doctor.signal_paths import SignalPath
from tools.query import OK, QueryError, get_json, send

HEALTHY = "healthy"


class Remedies(NamedTuple):
    """What a user can do about an Alloy: start it, read its log, check its memory, and open a page at `address`."""

    start: str = "docker compose up -d alloy; docker compose logs --tail 20 alloy"
    log: str = "docker compose logs --tail 50 alloy"
    memory: str = "check its memory (docker stats alloy) against ALLOY_MEMORY_LIMIT"
    open: str = "open {address}"


WITH_DOCKER = Remedies()


@dataclass(frozen=True)
class Alloy:
    """A snapshot of Alloy: why it does not answer (or ""), its unhealthy components, its own metrics."""

    address: str
    no_answer: str = ""
    unhealthy: tuple[tuple[str, str], ...] = ()
    metrics: str = ""
    container_state: str = ""
    remedies: Remedies = WITH_DOCKER

    @classmethod
    def examine(cls, address: str, container_state: str = "", remedies: Remedies = WITH_DOCKER) -> "Alloy":
        """Query Alloy at a URL; `container_state` is empty or the state of its stopped container."""

        def silent(why: str) -> Alloy:
            return cls(address, no_answer=why, container_state=container_state, remedies=remedies)

        try:
            ready = send(f"{address}/-/ready")
            if ready.status != OK:
                return silent(ready.text.strip()[:100] or f"status {ready.status}")
            listed = get_json(f"{address}/api/v0/web/components")
            metrics = send(f"{address}/metrics").text
            if not isinstance(listed, list):
                raise TypeError
            unhealthy = [
                (each["localID"], each["health"].get("message", ""))
                for each in listed
                if each["health"]["state"] != HEALTHY
            ]
        except QueryError as error:
            return silent(str(error))
        except (KeyError, TypeError, AttributeError):
            return silent("what answers there is not Alloy")
        return cls(address, unhealthy=tuple(unhealthy), metrics=metrics, remedies=remedies)

    def down(self) -> Fault | None:
        """Return a fault if Alloy does not answer."""
        if not self.no_answer:
            return None
        said = f"Alloy does not answer at {self.address}: {self.container_state or self.no_answer}"
        return Fault("service → Alloy", said, self.remedies.start)

    def receiver_fault(self, path: SignalPath) -> Fault | None:
        """Return a fault if the receiver is unhealthy or rejected data."""
        if fault := self._unhealthy(path.receiver, "service → Alloy"):
            return fault
        if path.refused and (refused := total(self.metrics, path.refused)):
            said = f"{path.receiver} refused {refused:.0f} since its start"
            return Fault("service → Alloy", said, self.remedies.memory)
        return None

    def exporter_fault(self, path: SignalPath) -> Fault | None:
        """Return a fault if the exporter is unhealthy or dropped data."""
        hop = f"Alloy → {path.backend}"
        if fault := self._unhealthy(path.exporter, hop):
            return fault
        if lost := sum(total(self.metrics, name, component_id=path.exporter) for name in path.lost):
            said = f"{path.exporter} dropped {lost:.0f} since its start"
            return Fault(hop, said, f"{self.remedies.log} | grep {path.exporter}")
        return None

    def findings(self) -> list[Finding]:
        """Report each unhealthy component."""
        return [Finding(name, f"Alloy: {said}", BROKEN, self._page(name)) for name, said in self.unhealthy]

    def _page(self, component: str) -> str:
        return f"{self.remedies.open.format(address=self.address)}/component/{component}"

    def _unhealthy(self, component: str, hop: str) -> Fault | None:
        for name, said in self.unhealthy:
            if name == component:
                return Fault(hop, f"{name} is unhealthy: {said}", self._page(name))
        return None
