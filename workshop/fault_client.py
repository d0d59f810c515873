"""A client of the fault API that each service serves at `/faults`, and the durations that its commands accept."""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from common.core.address import shown
from common.faults import ALL_FAULTS, MAX_LEASE_S, MIN_LEASE_S, Fault
from tools.query import FIRST_ERROR, Answer, QueryError, send
from workshop import WorkshopError

TIMEOUT_S = 3.0
NOT_FOUND = 404
UNIT_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}
DURATION = re.compile(r"(\d{1,6}(?:\.\d+)?)\s*([smh]?)")


@dataclass(frozen=True)
class FaultState:
    """A fault's strength, its startup value, and the seconds until that is restored (None if it was not changed)."""

    fault: Fault
    strength: float
    at_start: float
    seconds_left: float | None


class FaultClient:
    """Lists and sets faults at their services. Raises WorkshopError if a service is down or rejects the request."""

    def __init__(self, services: dict[str, str]) -> None:
        self._services = services

    def states(self) -> list[FaultState]:
        """Return the faults of all services, in the order of the registry."""
        found = {each["name"]: each for service in self._services for each in self._request(service)["faults"]}
        return [
            FaultState(fault, each["strength"], each["at_start"], each["seconds_left"])
            for fault in ALL_FAULTS
            if (each := found.get(fault.name))
        ]

    def set(self, fault: Fault, strength: float, seconds: float, *, blind: bool = False) -> None:
        """Inject a fault for `seconds`; `blind` hides its name in what the service reports."""
        self._request(
            fault.service, "PUT", f"/{fault.name}", {"strength": strength, "seconds": seconds, "blind": blind}
        )

    def clear(self, fault: Fault | None = None) -> None:
        """Restore the startup value of a fault, or of all."""
        for service in self._services if fault is None else (fault.service,):
            self._request(service, "DELETE", f"/{fault.name}" if fault else "")

    def _request(self, service: str, method: str = "GET", path: str = "", body: object = None) -> Any:
        address = self._services[service].rstrip("/")
        try:
            answer = send(f"{address}/faults{quote(path)}", method=method, body=body, timeout_s=TIMEOUT_S)
            if answer.status < FIRST_ERROR:
                return answer.json() if answer.body else None
        except QueryError as error:
            raise WorkshopError(
                f"the {service} does not answer at {shown(address)}; start the suite: make demo, or docker compose up"
            ) from error
        raise WorkshopError(_error_text(service, answer))


def _error_text(service: str, answer: Answer) -> str:
    if answer.status == NOT_FOUND and b"fault" not in answer.body:
        return f"fault injection is disabled on the {service}; start it with FAULTS_CONTROL=true"
    try:
        return str(answer.json()["detail"])
    except (QueryError, KeyError, TypeError):
        return f"the {service} answered {answer.status}; is it a service of this suite?"


def find_fault(name: str) -> Fault:
    """Return the fault with a name. Raises WorkshopError if there is none."""
    for fault in ALL_FAULTS:
        if fault.name == name.lower().replace("-", "_"):
            return fault
    raise WorkshopError(f"there is no fault {name!r}; there are {', '.join(fault.name for fault in ALL_FAULTS)}")


def parse_duration(text: str) -> float:
    """Return the seconds of a duration such as 90, 90s, 10m or 2h. Raises WorkshopError."""
    found = DURATION.fullmatch(text.strip().lower())
    if not found:
        raise WorkshopError(f"{text!r} is not a duration; use a form such as 90s, 10m or 2h")
    return float(found[1]) * UNIT_SECONDS[found[2]]


def parse_lease(text: str) -> float:
    """Return how long to inject a fault, in seconds. Raises WorkshopError for a duration that no service accepts."""
    lasts_s = parse_duration(text)
    if not MIN_LEASE_S <= lasts_s <= MAX_LEASE_S:
        raise WorkshopError(f"--for {text} is out of range; use {MIN_LEASE_S:.0f}s to {MAX_LEASE_S / 3600:.0f}h")
    return lasts_s


def format_duration(length_s: float) -> str:
    """Return a duration for people: 90 s, 10 min."""
    return f"{length_s:.0f} s" if length_s < 120 or length_s % 60 else f"{length_s / 60:.0f} min"  # noqa: PLR2004
