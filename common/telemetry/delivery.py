"""What a receiver of telemetry answers to a push, and whether that is a delivery."""

from urllib.parse import urljoin, urlsplit

import requests

# Characters of a response's text that a line shows.
SHOWN_TEXT = 200


def content_type(response: requests.Response) -> str:
    """Return the media type of a response without its parameters, in lower case; empty if there is none."""
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def describe(response: requests.Response) -> str:
    """Return what a response is that is not a delivery, in one line; of the address of a redirect only the host."""
    said, kind = f"status {response.status_code}", content_type(response)
    if response.is_redirect:
        try:
            host = urlsplit(urljoin(response.url, response.headers["Location"])).netloc.rpartition("@")[2]
        except ValueError:
            host = ""
        return f"{said}, a redirect to {host or 'an address that cannot be read'}"
    if kind == "text/html":
        return f"{said} with an HTML page"
    if response.ok:
        return f"{said} with {kind or 'no content type'}, not the answer of this endpoint"
    readable = kind.startswith("text/") or kind.endswith("json")
    text = response.text[:SHOWN_TEXT].strip() if readable else ""
    return f"{said}: {text}" if text else said
