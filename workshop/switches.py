"""The switches of the three services, each asked over HTTP at `/faults`."""

import http.client
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from common.faults import ALL_FAULTS, Fault
from workshop.errors import WorkshopError

TIMEOUT_S = 3.0
NOT_FOUND, FORBIDDEN = 404, 403


@dataclass(frozen=True)
class State:
    """How a fault is set: its strength, that at start, and how many seconds a live setting still lasts."""

    fault: Fault
    strength: float
    at_start: float
    seconds_left: float | None


class Switches:
    """Sets faults, each at the service that shows it; raises WorkshopError for whatever cannot be done."""

    def __init__(self, services: dict[str, str]) -> None:
        self._services = services

    def states(self) -> list[State]:
        """Give the faults of all services, in the order of the catalogue."""
        told = {each["name"]: each for service in self._services for each in self._ask(service)["faults"]}
        return [
            State(fault, told[fault.name]["strength"], told[fault.name]["at_start"], told[fault.name]["seconds_left"])
            for fault in ALL_FAULTS
            if fault.name in told
        ]

    def set(self, fault: Fault, strength: float, seconds: float, *, blind: bool = False) -> None:
        """Set a fault for so many seconds."""
        self._ask(fault.service, "PUT", f"/{fault.name}", {"strength": strength, "seconds": seconds, "blind": blind})

    def clear(self, fault: Fault | None = None) -> None:
        """Put a fault, or all of them, back to the strength at start."""
        for service in self._services if fault is None else (fault.service,):
            self._ask(service, "DELETE", f"/{fault.name}" if fault else "")

    def _ask(self, service: str, method: str = "GET", path: str = "", body: object = None) -> Any:
        address = self._services[service]
        request = urllib.request.Request(  # noqa: S310 - the address is checked to be http
            f"{address.rstrip('/')}/faults{quote(path)}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={} if body is None else {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - as above
                text = answer.read()
            return json.loads(text) if text else None
        except urllib.error.HTTPError as refusal:
            with refusal:
                raise WorkshopError(_refused(service, refusal.code, refusal.read())) from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise WorkshopError(
                f"the {service} does not answer at {address}; start the suite: make demo, or docker compose up"
            ) from error


def _refused(service: str, status: int, body: bytes) -> str:
    if status == NOT_FOUND and b"faults" not in body and b"fault" not in body:
        return f"the {service} lets nobody switch its faults; start it with FAULTS_CONTROL=true"
    try:
        return str(json.loads(body)["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the {service} answered {status}; is it a service of this suite?"


def answers(page: str) -> bool:
    """Tell whether something answers at an address."""
    try:
        with urllib.request.urlopen(f"{page}/readyz", timeout=1):  # noqa: S310 - made from a port
            return True
    except (OSError, ValueError, http.client.HTTPException):
        return False


def fault_named(name: str) -> Fault:
    """Give the fault of a name; raises WorkshopError."""
    for fault in ALL_FAULTS:
        if fault.name == name.lower().replace("-", "_"):
            return fault
    raise WorkshopError(f"there is no fault {name!r}; there are {', '.join(fault.name for fault in ALL_FAULTS)}")
