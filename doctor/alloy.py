"""Alloy's state: readiness, health of its components, and what they rejected and dropped."""

from dataclasses import dataclass

from doctor.metrics_text import total
from doctor.report import BROKEN, Fault, Finding
from doctor.signal_paths import SignalPath
from tools.query import OK, QueryError, get_json, send

HEALTHY = "healthy"


@dataclass(frozen=True)
class Alloy:
    """A snapshot of Alloy: why it does not answer (or ""), its unhealthy components, its own metrics."""

    address: str
    no_answer: str = ""
    unhealthy: tuple[tuple[str, str], ...] = ()
    metrics: str = ""
    container_state: str = ""

    @classmethod
    def examine(cls, address: str, container_state: str = "") -> "Alloy":
        """Query Alloy at a URL; `container_state` is empty or the state of its stopped container."""
        try:
            ready = send(f"{address}/-/ready")
            if ready.status != OK:
                return cls(
                    address,
                    no_answer=ready.text.strip()[:100] or f"status {ready.status}",
                    container_state=container_state,
                )
            listed = get_json(f"{address}/api/v0/web/components")
            metrics = send(f"{address}/metrics").text
            unhealthy = [
                (each["localID"], each["health"].get("message", ""))
                for each in listed
                if each["health"]["state"] != HEALTHY
            ]
        except QueryError as error:
            return cls(address, no_answer=str(error), container_state=container_state)
        except (KeyError, TypeError, AttributeError):
            return cls(address, no_answer="what answers there is not Alloy", container_state=container_state)
        return cls(address, unhealthy=tuple(unhealthy), metrics=metrics)

    def down(self) -> Fault | None:
        """Return a fault if Alloy does not answer."""
        if not self.no_answer:
            return None
        said = f"Alloy does not answer at {self.address}: {self.container_state or self.no_answer}"
        return Fault("service → Alloy", said, "docker compose up -d alloy; docker compose logs --tail 20 alloy")

    def receiver_fault(self, path: SignalPath) -> Fault | None:
        """Return a fault if the receiver is unhealthy or rejected data."""
        if fault := self._unhealthy(path.receiver, "service → Alloy"):
            return fault
        if path.refused and (refused := total(self.metrics, path.refused)):
            said = f"{path.receiver} refused {refused:.0f} since its start"
            return Fault("service → Alloy", said, "check its memory (docker stats alloy) against ALLOY_MEMORY_LIMIT")
        return None

    def exporter_fault(self, path: SignalPath) -> Fault | None:
        """Return a fault if the exporter is unhealthy or dropped data."""
        hop = f"Alloy → {path.backend}"
        if fault := self._unhealthy(path.exporter, hop):
            return fault
        if lost := sum(total(self.metrics, name, component_id=path.exporter) for name in path.lost):
            said = f"{path.exporter} dropped {lost:.0f} since its start"
            return Fault(hop, said, f"docker compose logs --tail 50 alloy | grep {path.exporter}")
        return None

    def findings(self) -> list[Finding]:
        """Report each unhealthy component."""
        see = f"open {self.address}/component/"
        return [Finding(name, f"Alloy: {said}", BROKEN, see + name) for name, said in self.unhealthy]

    def _unhealthy(self, component: str, hop: str) -> Fault | None:
        for name, said in self.unhealthy:
            if name == component:
                return Fault(hop, f"{name} is unhealthy: {said}", f"open {self.address}/component/{name}")
        return None
