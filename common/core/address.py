"""Addresses: host and port as text, credentials, names of this machine, and what is reached without a proxy."""

import ipaddress
import os
import re
import socket
from base64 import b64encode
from urllib.parse import unquote, urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Of this machine, of Docker for the host of a container, and of a Kubernetes cluster for its services.
LOCAL_DOMAINS = (".localhost", ".docker.internal", ".svc", ".cluster.local")
NAME = re.compile(r"[^\s!-,/:-@[-^`{-\x9f]+")


def join_host_port(host: str, port: int | str) -> str:
    """Return host:port, an IPv6 address in brackets (RFC 3986, section 3.2.2); brackets that are there stay."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def host_of(text: str) -> str:
    """Return a name or an IP address as sockets accept it, so IPv6 without brackets; empty if the text is neither."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        if ":" in bare or bare != text:
            ipaddress.IPv6Address(bare)
        else:
            bare.encode("idna")  # what sockets do with a name: no label may be empty, or have more than 63 characters
    except ValueError:
        return ""
    return bare if ":" in bare or NAME.fullmatch(bare) else ""


def shown(address: str) -> str:
    """Return an address, valid or not, as lines, pages and telemetry may show it: without credentials.

    Everything between the scheme and the last @ is left out, because a password may contain any character, and of a
    URL the query and the fragment too, which may contain a token.
    """
    scheme, separator, rest = address.partition("://")
    end = (rest if separator else address).rpartition("@")[2].partition("?")[0].partition("#")[0]
    return f"{scheme.rpartition('@')[2]}://{end}" if separator else end


def split_credentials(url: str) -> tuple[str, str]:
    """Return a URL without its user and password, and the value of the header Authorization that they stand for.

    The header is empty where the URL has neither. Source: RFC 7617, "The 'Basic' HTTP Authentication Scheme".
    """
    parts = urlsplit(url)
    userinfo, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, ""
    user, _, password = userinfo.partition(":")
    return parts._replace(netloc=host).geturl(), basic(unquote(user), unquote(password))


def basic(user: str, password: str) -> str:
    """Return the value of the header Authorization for a user and a password."""
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def is_trusted_host(host: str) -> bool:
    """Return whether a Host header names this machine in a way that no other site can make resolve to it.

    That is an IP address, `localhost` or this machine's own host name, each with or without a port.
    """
    try:
        name = (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:  # an opening bracket without a closing one
        return False
    if name.removesuffix(".") in ("localhost", socket.gethostname().lower()):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_local(host: str) -> bool:
    """Return whether `host` is this machine, or a name without a dot or of a domain that only exists around it.

    A proxy would look for such an address on its own machine or in its own network.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.removesuffix(".").lower()
        return bool(name) and ("." not in name or name.endswith(LOCAL_DOMAINS))
    # The unspecified address, to which a client can connect, is this machine.
    found = getattr(address, "ipv4_mapped", None) or address
    return bool(found.is_loopback or found.is_unspecified)


def bypass_proxies(*addresses: str) -> None:
    """Make all libraries of this process connect directly to those of `addresses` that are local, and to loopback.

    Call it before the first connection: some libraries read the environment once. An address is a URL, a host and port,
    or empty. Others are still reached through the proxy. Without a proxy in the environment nothing is changed.
    """
    from urllib.request import getproxies_environment  # here: it costs 1 MB, and others need only names

    if not getproxies_environment():
        return
    hosts = [urlsplit(address if "//" in address else f"//{address}").hostname or "" for address in addresses]
    environ = os.environ
    local = dict.fromkeys([*LOOPBACK, *filter(is_local, hosts)])
    direct = environ.get("no_proxy") or environ.get("NO_PROXY", "")
    listed = [entry for entry in map(str.strip, direct.split(",")) if entry]
    extended = ",".join([*listed, *(host for host in local if host not in listed)])
    # A list of "*" alone means all hosts, to Python. gRPC does not know it, and has a variable that takes precedence.
    environ["NO_PROXY"] = environ["no_proxy"] = "*" if listed == ["*"] else extended
    if grpc := environ.get("no_grpc_proxy", "*" if listed == ["*"] else ""):
        environ["no_grpc_proxy"] = ",".join([grpc, *local])
