"""Addresses as text: host and port joined, and URLs without the credentials that they may contain."""

from base64 import b64encode
from urllib.parse import unquote, urlsplit


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
