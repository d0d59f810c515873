"""What Alloy says of itself: whether it is ready, how its components are, what they refused and lost."""

from dataclasses import dataclass

from doctor.ask import NoAnswer, ask, asked_for_json, total
from doctor.report import BROKEN, Fault, Finding
from doctor.ways import Way

HEALTHY = "healthy"


@dataclass(frozen=True)
class Alloy:
    """Alloy as it is now: why it does not answer (or ""), its sick components, its own metrics."""

    address: str
    silent: str = ""
    sick: tuple[tuple[str, str], ...] = ()
    page: str = ""
    how: str = ""

    @classmethod
    def examine(cls, address: str, how: str = "") -> "Alloy":
        """Ask it; `how` says how its container is."""
        try:
            ready = ask(f"{address}/-/ready")
            if ready.status != 200:  # noqa: PLR2004 - OK
                return cls(address, silent=ready.text.strip()[:100] or f"status {ready.status}", how=how)
            listed = asked_for_json(f"{address}/api/v0/web/components")
            page = ask(f"{address}/metrics").text
            sick = [
                (each["localID"], each["health"].get("message", ""))
                for each in listed
                if each["health"]["state"] != HEALTHY
            ]
        except NoAnswer as error:
            return cls(address, silent=str(error), how=how)
        except (KeyError, TypeError, AttributeError):
            return cls(address, silent="what answers there is no Alloy", how=how)
        return cls(address, sick=tuple(sick), page=page)

    def down(self) -> Fault | None:
        """Report that it does not answer."""
        if not self.silent:
            return None
        said = f"Alloy does not answer at {self.address}: {self.how or self.silent}"
        return Fault("service → Alloy", said, "docker compose up -d alloy; docker compose logs --tail 20 alloy")

    def takes_not(self, way: Way) -> Fault | None:
        """Report a receiver that is not well, or that refuses what comes."""
        if fault := self._unwell(way.receiver, "service → Alloy"):
            return fault
        if way.refused and (refused := total(self.page, way.refused)):
            said = f"{way.receiver} refused {refused:.0f} since its start"
            return Fault("service → Alloy", said, "is its memory at the limit? ALLOY_MEMORY_LIMIT, docker stats alloy")
        return None

    def hands_on_not(self, way: Way) -> Fault | None:
        """Report an exporter that is not well, or that lost something."""
        hop = f"Alloy → {way.backend}"
        if fault := self._unwell(way.exporter, hop):
            return fault
        if lost := sum(total(self.page, name, component_id=way.exporter) for name in way.lost):
            said = f"{way.exporter} lost {lost:.0f} since its start"
            return Fault(hop, said, f"docker compose logs --tail 50 alloy | grep {way.exporter}")
        return None

    def findings(self) -> list[Finding]:
        """Report each component that is not well."""
        see = f"open {self.address}/component/"
        return [Finding(name, f"Alloy: {said}", BROKEN, see + name) for name, said in self.sick]

    def _unwell(self, component: str, hop: str) -> Fault | None:
        for name, said in self.sick:
            if name == component:
                return Fault(hop, f"{name} is not well: {said}", f"open {self.address}/component/{name}")
        return None
