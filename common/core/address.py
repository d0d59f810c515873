"""Addresses: host and port as text, credentials, names of this machine, and what is reached without a proxy."""

import ipaddress
import os
import socket
from base64 import b64encode
from urllib.parse import unquote, urlsplit

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def join_host_port(host: str, port: int | str) -> str:
    """Return host:port, an IPv6 address in brackets (RFC 3986, section 3.2.2); brackets that are there stay."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def shown(address: str) -> str:
    """Return an address, valid or not, as lines, pages and telemetry may show it: without credentials.

    Everything between the scheme and the last @ is left out, because a password may contain any character, and of a
    URL the query and the fragment too, which may contain a token.
    """
    scheme, separator, rest = address.partition("://")
    if not separator:
        return address.rpartition("@")[2]
    return f"{scheme.rpartition('@')[2]}://{rest.rpartition('@')[2].partition('?')[0].partition('#')[0]}"


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
    if name in ("localhost", socket.gethostname().lower()):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_local(host: str) -> bool:
    """Return whether `host` is this machine or a name without a dot, such as those that docker compose gives.

    A proxy would look for such an address on its own machine or in its own network.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return bool(host) and ("." not in host or host.endswith(".localhost"))


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
