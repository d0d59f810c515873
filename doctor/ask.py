"""HTTP requests, and the samples of a Prometheus text page."""

import http.client
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

TIMEOUT_S = 5.0
# A sample of the text format: name, labels, value. https://prometheus.io/docs/instrumenting/exposition_formats/
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)", re.MULTILINE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class NoAnswer(Exception):
    """No response, or an unexpected one; the text describes it."""


@dataclass(frozen=True)
class Page:
    """A response: its status and its text."""

    status: int
    text: str

    def json(self) -> Any:
        """Return the parsed JSON. Raises NoAnswer if it is not JSON."""
        try:
            return json.loads(self.text)
        except ValueError:
            raise NoAnswer(f"the response is not JSON: {self.text[:60]!r}") from None


def ask(address: str, body: object = None, **query: str | int) -> Page:
    """GET a URL, or POST `body` to it as JSON. Raises NoAnswer if there is no response within five seconds."""
    full = address + ("?" + urllib.parse.urlencode(query) if query else "")
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(full, data, {"Content-Type": "application/json"})  # noqa: S310 - http, by our callers
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - http, by our callers
            return Page(answer.status, answer.read().decode(errors="replace"))
    except urllib.error.HTTPError as refusal:
        return Page(refusal.code, refusal.read().decode(errors="replace"))
    except http.client.HTTPException as error:
        raise NoAnswer(f"the response is not HTTP, or is truncated ({type(error).__name__})") from None
    except (OSError, ValueError) as error:
        raise NoAnswer(str(getattr(error, "reason", error))) from None


def asked_for_json(address: str, body: object = None, **query: str | int) -> Any:
    """Return the JSON of a response. Raises NoAnswer if its status is not 200."""
    page = ask(address, body, **query)
    if page.status != 200:  # noqa: PLR2004 - OK
        raise NoAnswer(f"it answers {page.status}: {page.text.strip()[:80]}")
    return page.json()


def asked_of_mimir(mimir: str, query: str) -> Any:
    """Return the series of an instant PromQL query. Raises NoAnswer; KeyError or TypeError if it is not Mimir."""
    return asked_for_json(f"{mimir}/prometheus/api/v1/query", query=query)["data"]["result"]


def total(page: str, name: str, **wanted: str) -> float:
    """Return the sum of a metric's samples with these labels; "*" matches any value of a label that is present."""
    found = 0.0
    for sample in SAMPLE.finditer(page):
        if sample[1] == name:
            labels = dict(LABEL.findall(sample[2] or ""))
            if all(key in labels and value in ("*", labels[key]) for key, value in wanted.items()):
                found += float(sample[3])
    return found
