"""Parses and validates the name in a request's body and the page in its query string."""

import re
from collections.abc import Mapping
from http import HTTPStatus

from flask import Request
from werkzeug.exceptions import BadRequest

from common.web.problems import Problem

MAX_NAME_LENGTH = 50  # of the column
DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE = 100, 1_000
MAX_ID = 2**31 - 1  # of a serial

# Control characters, which forge lines wherever they are displayed (and Postgres cannot store NUL), line and paragraph
# separators, and lone surrogates, which JSON allows and UTF-8 does not. Joiners and the like are parts of names.
FORBIDDEN_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def parse_name(request: Request) -> str:
    """Return the name in the body `{"name": …}`; raise Problem 415, 413 or 400."""
    if not request.is_json:
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send the name as JSON, with Content-Type: application/json.")
    try:
        body = request.get_json()
    except (BadRequest, RecursionError) as error:
        raise Problem(HTTPStatus.BAD_REQUEST, 'The body is not valid JSON. Send {"name": "..."}.') from error
    name = body.get("name") if isinstance(body, dict) else None
    if not isinstance(name, str) or not name.strip():
        raise Problem(HTTPStatus.BAD_REQUEST, 'The body has no usable name. Send {"name": "..."}.')
    if len(name) > MAX_NAME_LENGTH:
        raise Problem(HTTPStatus.BAD_REQUEST, f"The name is longer than {MAX_NAME_LENGTH} characters.")
    if FORBIDDEN_CHARACTERS.search(name):
        raise Problem(HTTPStatus.BAD_REQUEST, "The name contains control characters or line breaks.")
    return name


def parse_page(arguments: Mapping[str, str]) -> tuple[int, int | None]:
    """Return (limit, before) from the query string; raise Problem 400."""
    limit = _parse_integer("limit", arguments.get("limit", str(DEFAULT_PAGE_SIZE)), MAX_PAGE_SIZE)
    before = arguments.get("before")
    return limit, None if before is None else _parse_integer("before", before, MAX_ID)


def _parse_integer(name: str, text: str, maximum: int) -> int:
    # isascii first: int() also accepts digits of other scripts.
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(maximum)) or not 1 <= int(text) <= maximum:
        raise Problem(HTTPStatus.BAD_REQUEST, f"{name} must be a whole number from 1 to {maximum}.")
    return int(text)
