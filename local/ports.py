"""Ports of this machine: a free one, whether one is taken, and by whom."""

import os
import random
import socket
from pathlib import Path

from local.errors import LocalError
from local.inspection import PROC, command_of

LOOPBACK = "127.0.0.1"
# Above what well-known services listen on.
LOWEST = 20_000
TRIES = 100
LISTEN = "0A"  # the state of a listening socket in /proc/net/tcp (net/tcp_states.h)

# What free_port() has given, for whoever asks for several before anyone listens on the first.
_given: set[int] = set()


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on at this moment, another one each time.

    Below the range that the kernel takes the near ends of connections from: a server that is stopped and started again
    on its port could find it in use there, by any client of anyone.
    """
    for _ in range(TRIES):
        port = random.randint(LOWEST, _lowest_ephemeral() - 1)  # noqa: S311 - dice, not secrets
        if port not in _given and is_free(port):
            _given.add(port)
            return port
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def _lowest_ephemeral() -> int:
    """The first port of that range (ip(7), ip_local_port_range); IANA's where the kernel does not tell."""
    try:
        lowest = int((PROC / "sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        lowest = 49152
    return max(lowest, LOWEST + TRIES)


def is_free(port: int) -> bool:
    """Tell whether we could listen on `port` of the loopback address now."""
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
    """Tell whether something accepts connections on `port`."""
    try:
        socket.create_connection((host, port), timeout=timeout_s).close()
    except OSError:
        return False
    return True


def holder_of(port: int) -> str | None:
    """Return "pid <n> (<command>)" of the process that listens on `port`, or None where /proc does not tell us."""
    wanted = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for entry in PROC.glob("[0-9]*") if wanted else ():
        if any(_link(handle) in wanted for handle in _handles(entry)):
            return f"pid {entry.name} ({_shortened(command_of(int(entry.name)))})"
    return None


def _shortened(command: str, width: int = 32) -> str:
    path, _, rest = command.partition(" ")
    command = f"{path.rpartition('/')[2]} {rest}".rstrip()  # its folder may be long, and tells little
    return command if len(command) <= width else command[: width - 1] + "…"


def check_free(port: int, name: str) -> None:
    """Raise LocalError, naming who holds it, if `port` is taken.

    Done before a server starts: afterwards it might be the other one that answers, and seem ready.
    """
    if not is_free(port):
        holder = holder_of(port)
        raise LocalError(f"port {port} of {name} is taken" + (f" by {holder}" if holder else ""))


def _listening_inodes(port: int) -> list[str]:
    rows: list[list[str]] = []
    for table in (PROC / "net/tcp", PROC / "net/tcp6"):
        if table.exists():
            rows += [line.split() for line in table.read_text().splitlines()[1:]]
    return [row[9] for row in rows if row[3] == LISTEN and int(row[1].rpartition(":")[2], 16) == port]


def _handles(process: Path) -> list[Path]:
    try:
        return list((process / "fd").iterdir())
    except OSError:  # ended meanwhile, or another user's
        return []


def _link(handle: Path) -> str:
    try:
        return os.readlink(handle)
    except OSError:
        return ""
