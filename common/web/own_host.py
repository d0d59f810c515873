"""Whether the Host header of a request names this machine: the check against DNS rebinding."""

import ipaddress
import socket
from urllib.parse import urlsplit


def is_own_host(host: str) -> bool:
    """Return whether a Host header holds an IP address, localhost or this machine's own name, with or without a port.

    Another name may belong to a site that made it resolve to this machine, so that its pages can read from here.
    """
    try:
        name = (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:  # a bracket without its partner
        return False
    if name in ("localhost", socket.gethostname().lower()):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
