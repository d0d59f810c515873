"""What a page of another site may not do in the name of whoever has it open: reach the switches on this machine.

A browser sends requests to 127.0.0.1 for any page that asks for it. Three things give such a request away: the Host
header, which is another name when that page's own name was made to lead here (DNS rebinding), the Origin header, and
Sec-Fetch-Site. Programs such as curl send neither of the last two.
"""

from http import HTTPStatus
from urllib.parse import urlsplit

from flask import Request

from common.web.own_host import is_own_host
from common.web.problems import Problem

OWN_SITE = frozenset({"", "same-origin", "none"})


def reject_cross_site(request: Request) -> None:
    """Raise Problem 403 for a request that a page of another site made. Source: W3C, "Fetch Metadata"."""
    if not is_own_host(request.headers.get("Host", "")):
        raise Problem(HTTPStatus.FORBIDDEN, "This answers to localhost, an address in numbers and its own name only.")
    reject_cross_origin(request)


def reject_cross_origin(request: Request) -> None:
    """Raise Problem 403 for a request that a page of another site made under a name that leads here.

    For addresses that programs ask under any name, such as a scrape.
    """
    asked = request.headers.get("Host", "")
    origin = request.headers.get("Origin")
    if (origin is not None and _netloc(origin) != asked) or (request.headers.get("Sec-Fetch-Site", "") not in OWN_SITE):
        raise Problem(HTTPStatus.FORBIDDEN, "This is not for pages of other sites.")


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:  # a bracket without its partner
        return ""
