"""What a request asks for, checked: which beast, which name, which page."""

import re
from collections.abc import Mapping
from http import HTTPStatus

from flask import Request
from werkzeug.exceptions import BadRequest

from common.web.problems import Problem

MAX_NAME_LENGTH = 50  # of the column
DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE = 100, 1_000
MAX_ID = 2**31 - 1  # of a serial

# Control characters, which forge lines in whatever shows them (NUL cannot be stored at all), line and paragraph
# separators, and halves of characters, which JSON can hold and UTF-8 cannot. Joiners and the like are part of names.
FORBIDDEN_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def parse_name(request: Request) -> str:
    """Give the name in the body `{"name": …}`; raises a refusal, 415, 413 or 400."""
    if not request.is_json:
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send the name as JSON, with Content-Type: application/json.")
    try:
        body = request.get_json()
    except (BadRequest, RecursionError) as error:
        raise Problem(HTTPStatus.BAD_REQUEST, 'The body is not JSON; send {"name": "..."}.') from error
    name = body.get("name") if isinstance(body, dict) else None
    if not isinstance(name, str) or not name.strip():
        raise Problem(HTTPStatus.BAD_REQUEST, 'The body has no usable name; send {"name": "..."}.')
    if len(name) > MAX_NAME_LENGTH:
        raise Problem(HTTPStatus.BAD_REQUEST, f"The name is longer than {MAX_NAME_LENGTH} characters.")
    if FORBIDDEN_CHARACTERS.search(name):
        raise Problem(HTTPStatus.BAD_REQUEST, "The name has control characters or line breaks.")
    return name


def parse_page(arguments: Mapping[str, str]) -> tuple[int, int | None]:
    """Give (limit, before) of the query string; raises Problem 400."""
    limit = _parse_integer("limit", arguments.get("limit", str(DEFAULT_PAGE_SIZE)), MAX_PAGE_SIZE)
    before = arguments.get("before")
    return limit, None if before is None else _parse_integer("before", before, MAX_ID)


def _parse_integer(name: str, text: str, most: int) -> int:
    # isascii first: int() also takes digits of other scripts, which no one means in a query string.
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(most)) or not 1 <= int(text) <= most:
        raise Problem(HTTPStatus.BAD_REQUEST, f"{name} must be a whole number from 1 to {most}.")
    return int(text)
