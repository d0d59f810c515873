"""Alloy's state: readiness, health of its components, and what they rejected, dropped, and repeat."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from doctor.metrics_text import samples, total
from doctor.report import BROKEN, Fault, Finding
from doctor.signal_paths import SignalPath
from tools.query import OK, QueryError, get_json, send

HEALTHY = "healthy"
# With several replicas, it sends all spans of a trace to the same one; a component of kubernetes.alloy.
LOAD_BALANCER = "otelcol.exporter.loadbalancing.replicas"


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
        # Spans for which there was no replica yet, as when Alloy starts, are rejected too; memory is not the reason.
        early = total(self.metrics, path.lost[0], component_id=LOAD_BALANCER, exporter=f"loadbalancing/{LOAD_BALANCER}")
        if path.refused and (refused := total(self.metrics, path.refused) - early) > 0:
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

    def retry_fault(self, path: SignalPath, *, delivered_before: bool) -> Fault | None:
        """Return a fault if the exporter repeats pushes: the backend works, but Alloy does not reach it.

        Unless `delivered_before`, only if no push has succeeded since Alloy's start, as each backend is slow at times.
        """
        repeated = total(self.metrics, path.repeated, component_id=path.exporter)
        delivered = total(self.metrics, path.delivered, component_id=path.exporter)
        if not repeated or (delivered and not delivered_before):
            return None
        said = f"{path.exporter} repeats pushes ({path.repeated} is {repeated:.0f})"
        said += "" if delivered else ", and none has succeeded since its start"
        remedy = f"check the URL in alloy/endpoints.json, and firewalls and network policies; {self.remedies.log}"
        return Fault(f"Alloy → {path.backend}", said, remedy)

    def replicas_fault(self, pods: Mapping[str, str], describe: str) -> Fault | None:
        """Return a fault if spans do not reach the replica that processes their trace.

        `pods` are the names of Alloy's pods by address, and `describe` shows the Service with these addresses. The
        component is healthy in all these cases, and the receiver rejects the spans, or they wait for five minutes.
        """
        hop = "Alloy → replica of Alloy"
        if fault := self._unhealthy(LOAD_BALANCER, hop):
            return fault
        failed = total(
            self.metrics, "otelcol_loadbalancer_num_resolutions_total", component_id=LOAD_BALANCER, success="false"
        )
        if failed and not total(self.metrics, "otelcol_loadbalancer_num_backends", component_id=LOAD_BALANCER):
            return Fault(hop, f"{LOAD_BALANCER} finds no replica: its Service has no address", describe)
        for labels, waiting in samples(self.metrics, "otelcol_exporter_queue_size", component_id=LOAD_BALANCER):
            # Such as otlp/loadbalancing/otelcol.exporter.loadbalancing.replicas_10.244.0.5:4319.
            address = labels.get("exporter", "").rpartition("_")[2]
            if waiting and (pod := pods.get(address.rpartition(":")[0])):
                said = f"{waiting:.0f} batches wait for {address} of pod/{pod}"
                return Fault(hop, said, f"check network policies; {self.remedies.log} | grep loadbalancing")
            if waiting:
                said = f"{waiting:.0f} batches wait for {address}, which is not the address of a pod of Alloy"
                return Fault(hop, said, f"wait a minute until Alloy has the new addresses; {describe}")
        return None

    def findings(self) -> list[Finding]:
        """Report each unhealthy component, and a configuration that was not loaded."""
        found = [Finding(name, f"Alloy: {said}", BROKEN, self._page(name)) for name, said in self.unhealthy]
        if any(value == 0 for _, value in samples(self.metrics, "alloy_config_last_load_successful")):
            said = "Alloy rejected it at the last reload, and uses the one before"
            found.append(Finding("configuration of alloy", said, BROKEN, self.remedies.log))
        return found

    def _page(self, component: str) -> str:
        return f"{self.remedies.open.format(address=self.address)}/component/{component}"

    def _unhealthy(self, component: str, hop: str) -> Fault | None:
        for name, said in self.unhealthy:
            if name == component:
                return Fault(hop, f"{name} is unhealthy: {said}", self._page(name))
        return None
