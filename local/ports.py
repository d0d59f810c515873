"""Ports of this machine, and those that the run without Docker listens on, each movable by a variable."""

import random
import socket
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.core.env import Env
from local.errors import LocalError
from tools.suite import SERVICES

LOOPBACK = "127.0.0.1"
# Above what well-known services listen on.
LOWEST = 20_000
TRIES = 100

# What free_port() has returned: a caller may ask for several before anything listens on the first.
_returned: set[int] = set()


def free_port() -> int:
    """Return a port of the loopback address that is free at this moment, another one each time.

    It lies below the range of ephemeral ports: there, the connection of any client could use the port of a server
    between its stop and its next start. For a minute no other process gets it from here.
    """
    for _ in range(TRIES):
        port = random.randint(LOWEST, _lowest_ephemeral() - 1)  # noqa: S311 - not a secret
        if port not in _returned and _reserve(port):
            _returned.add(port)
            return port
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _reserve(port: int) -> bool:
    """Return whether nothing uses `port`, and leave it with a closed connection in TIME_WAIT (RFC 9293).

    Servers listen on it nevertheless, because they set SO_REUSEADDR. Without that option, bind() fails: so this
    function returns False in other processes until the caller's server listens. The option counts only if both sockets
    have it, hence it is set after bind().
    """
    with socket.socket() as listener:
        try:
            listener.bind((LOOPBACK, port))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.listen()
            with socket.create_connection((LOOPBACK, port)):
                listener.accept()[0].close()  # the side that closes first is the one in TIME_WAIT
        except OSError:
            return False
        return True


def _lowest_ephemeral() -> int:
    """Return the first ephemeral port (ip(7), ip_local_port_range), or IANA's where the kernel does not say."""
    try:
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        lowest = 49152
    return max(lowest, LOWEST + TRIES)


def is_free(port: int) -> bool:
    """Return whether `port` of the loopback address can be listened on now."""
    with socket.socket() as probe:
        # As servers do: a connection that lingers after its server's end does not make the port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen()
        except OSError:
            return False
        return True


def answers(port: int, host: str = LOOPBACK, timeout_s: float = 0.5) -> bool:
    """Return whether something accepts connections on `port`."""
    try:
        socket.create_connection((host, port), timeout=timeout_s).close()
    except OSError:
        return False
    return True


def holder_of(port: int) -> str | None:
    """Return "pid <n> (<command>)" of the process that listens on `port`, or None if that is not known.

    It is not known where psutil is not installed (the doctor also runs without .venv), nor for the process of another
    user.
    """
    found = _listener(port, lambda process: f"pid {process.pid} ({_shortened(process.cmdline())})")
    return None if found is None else str(found)


def environment_of(port: int) -> dict[str, str] | None:
    """Return the environment of the process that listens on `port`, as it was started; None if it is not known."""
    found = _listener(port, lambda process: process.environ())
    return None if found is None else dict(found)


def _listener(port: int, read: Callable[[Any], Any]) -> Any:
    """Return what `read` returns for the process (psutil) that listens on `port`; None if it is not known."""
    try:
        import psutil
    except ImportError:
        return None
    try:
        for connection in psutil.net_connections("tcp"):
            listens = connection.status == psutil.CONN_LISTEN and connection.laddr[1:] == (port,)
            if listens and connection.pid:
                return read(psutil.Process(connection.pid))
    except psutil.Error:
        pass
    return None


def _shortened(command: Sequence[str], width: int = 32) -> str:
    # The folder of the program may be long, and says little.
    text = " ".join([command[0].rpartition("/")[2], *command[1:]]) if command else "?"
    return text if len(text) <= width else text[: width - 1] + "…"


def check_free(port: int, name: str) -> None:
    """Raise LocalError, naming who holds it, if `port` is taken.

    Call it before a server starts: afterwards, the other process could answer and look like a ready server.
    """
    if not is_free(port):
        holder = holder_of(port)
        raise LocalError(f"port {port} of {name} is in use" + (f" by {holder}" if holder else ""))


@dataclass(frozen=True)
class Port:
    """One port: what listens there, the variable that sets it, and its number."""

    name: str
    variable: str
    number: int


DEFAULTS = (
    *((service.short, f"DEMO_{service.port_variable}", service.port) for service in SERVICES),
    ("workshop", "DEMO_WORKSHOP_PORT", 4003),
    ("OTLP over gRPC", "DEMO_OTLP_GRPC_PORT", 4317),
    ("OTLP over HTTP", "DEMO_OTLP_HTTP_PORT", 4318),
    ("Loki push", "DEMO_LOKI_PORT", 3100),
    ("Pyroscope push", "DEMO_PYROSCOPE_PORT", 4040),
    ("Faro", "DEMO_FARO_PORT", 12350),
    ("gateway page", "DEMO_PAGE_PORT", 12347),
    ("Aspire", "DEMO_ASPIRE_PORT", 18888),
    ("Locust", "DEMO_LOAD_PORT", 8089),
)

# What listens only where the gateway runs.
OF_THE_GATEWAY = ("OTLP over gRPC", "OTLP over HTTP", "Loki push", "Pyroscope push", "Faro", "gateway page", "Aspire")

LAST_PORT = 65_535

DOCKER = "\nDocker holds some of them: if that is the suite, docker compose down ends it."


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
                    raise LocalError(f"{one.variable} and {other.variable} are both {one.number}; set different ports")
        return cls(ports)

    def __getitem__(self, name: str) -> int:
        return self._ports[name].number

    def check_free(self, unused: Collection[str] = ()) -> None:
        """Raise LocalError, naming each port that is in use, what holds it and what to do about it.

        `unused` are names of ports that this run does not open.
        """
        taken = [port for name, port in self._ports.items() if name not in unused and not is_free(port.number)]
        if taken:
            them = "it" if len(taken) == 1 else "them"
            holders = {port.number: _by(port.number) for port in taken}
            docker = DOCKER if any("(docker" in holder for holder in holders.values()) else ""
            elsewhere = " ".join(f"{port.variable}={_another(port.number)}" for port in taken)
            raise LocalError(
                "\n".join(f"port {port.number} ({port.name}) is in use{holders[port.number]}" for port in taken)
                + f"{docker}\nStop what holds {them}, or choose another:\n  {elsewhere} make demo"
            )


def _by(port: int) -> str:
    holder = holder_of(port)
    return f" by {holder}" if holder else ""


def _another(port: int) -> int:
    # A number that is easy to recognise, if it is free.
    near = port + 10_000
    return near if near <= LAST_PORT and is_free(near) else free_port()
