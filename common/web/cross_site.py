"""Protection against pages of other sites in a browser on this machine: they must not reach the fault switches.

A browser sends requests to 127.0.0.1 for any page. Three things identify such a request: the Host header, which is
another name if the page's own name was made to resolve to this machine (DNS rebinding), the Origin header, and
Sec-Fetch-Site. Programs such as curl send neither of the last two.
"""

import ipaddress
import socket
from http import HTTPStatus
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from flask import Request

OWN_SITE = frozenset({"", "same-origin", "none"})


def is_trusted_host(host: str) -> bool:
    """Return whether a Host header names this machine in a way that nobody else can make resolve to it.

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


def reject_cross_site(request: "Request") -> None:
    """Raise Problem 403 for a request from a page of another site. Source: W3C, "Fetch Metadata"."""
    if not is_trusted_host(request.headers.get("Host", "")):
        _reject("Use localhost, an IP address or this machine's host name to reach this endpoint.")
    reject_cross_origin(request)


def reject_cross_origin(request: "Request") -> None:
    """Raise Problem 403 for a request from a page of another origin, under any host name.

    For endpoints that programs reach under any name, such as a scrape.
    """
    origin = request.headers.get("Origin")
    other_origin = origin is not None and _netloc(origin) != request.headers.get("Host", "")
    if other_origin or request.headers.get("Sec-Fetch-Site", "") not in OWN_SITE:
        _reject("Cross-site requests aren't allowed.")


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _reject(detail: str) -> NoReturn:
    from common.web.problems import Problem  # `is_trusted_host` also serves programs without Flask

    raise Problem(HTTPStatus.FORBIDDEN, detail)
