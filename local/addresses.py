"""The ports that the run without Docker listens on: those of the real stack, each movable by a variable."""

from collections.abc import Iterable
from dataclasses import dataclass

from common.core.env import Env
from local.errors import LocalError
from local.ports import free_port, holder_of, is_free


@dataclass(frozen=True)
class Port:
    """One port: what listens there, the variable that moves it, and its number."""

    name: str
    variable: str
    number: int


DEFAULTS = (
    ("server", "DEMO_SERVER_PORT", 4000),
    ("requester", "DEMO_REQUESTER_PORT", 4001),
    ("recorder", "DEMO_RECORDER_PORT", 4002),
    ("workshop", "DEMO_WORKSHOP_PORT", 4003),
    ("OTLP over gRPC", "DEMO_OTLP_GRPC_PORT", 4317),
    ("OTLP over HTTP", "DEMO_OTLP_HTTP_PORT", 4318),
    ("Loki push", "DEMO_LOKI_PORT", 3100),
    ("Pyroscope push", "DEMO_PYROSCOPE_PORT", 4040),
    ("gateway page", "DEMO_PAGE_PORT", 12347),
    ("Aspire", "DEMO_ASPIRE_PORT", 18888),
    ("Locust", "DEMO_LOAD_PORT", 8089),
)

LAST_PORT = 65_535

DOCKER = "\nDocker holds ports of it: if that is the suite, docker compose down ends it."


class Ports:
    """All ports of one run; `ports["server"]` is a number."""

    def __init__(self, ports: Iterable[Port]) -> None:
        self._ports = {port.name: port for port in ports}

    @classmethod
    def read(cls, env: Env) -> "Ports":
        """Read them from the environment. Raises SettingsError, or LocalError if two are the same."""
        ports = [Port(name, variable, env.port(variable, default)) for name, variable, default in DEFAULTS]
        for one in ports:
            for other in ports:
                if one.number == other.number and one.variable < other.variable:
                    raise LocalError(f"{one.variable} and {other.variable} are both {one.number}; give each its own")
        return cls(ports)

    def __getitem__(self, name: str) -> int:
        return self._ports[name].number

    def check_free(self) -> None:
        """Raise LocalError, naming each taken port, who holds it and what to do about it."""
        taken = [port for port in self._ports.values() if not is_free(port.number)]
        if taken:
            them = "it" if len(taken) == 1 else "them"
            holders = {port.number: _by(port.number) for port in taken}
            docker = DOCKER if any("(docker" in holder for holder in holders.values()) else ""
            elsewhere = " ".join(f"{port.variable}={_another(port.number)}" for port in taken)
            raise LocalError(
                "\n".join(f"port {port.number} ({port.name}) is taken{holders[port.number]}" for port in taken)
                + f"{docker}\nStop what holds {them}, or choose another:\n  {elsewhere} make demo"
            )


def _by(port: int) -> str:
    holder = holder_of(port)
    return f" by {holder}" if holder else ""


def _another(port: int) -> int:
    # A number one recognises, where it is to be had.
    near = port + 10_000
    return near if near <= LAST_PORT and is_free(near) else free_port()
