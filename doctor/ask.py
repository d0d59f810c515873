"""Questions over HTTP, and the counters of a Prometheus page."""

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
    """Nobody answered, or not as was to be expected; the text says how."""


@dataclass(frozen=True)
class Page:
    """An answer: its status and its text."""

    status: int
    text: str

    def json(self) -> Any:
        """Return what it holds. Raises NoAnswer if it is no JSON."""
        try:
            return json.loads(self.text)
        except ValueError:
            raise NoAnswer(f"the answer is no JSON: {self.text[:60]!r}") from None


def ask(address: str, body: object = None, **query: str | int) -> Page:
    """Get `address`, or post `body` to it as JSON. Raises NoAnswer if nobody answers within five seconds."""
    full = address + ("?" + urllib.parse.urlencode(query) if query else "")
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(full, data, {"Content-Type": "application/json"})  # noqa: S310 - http, by our callers
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310 - http, by our callers
            return Page(answer.status, answer.read().decode(errors="replace"))
    except urllib.error.HTTPError as refusal:
        return Page(refusal.code, refusal.read().decode(errors="replace"))
    except http.client.HTTPException as error:
        raise NoAnswer(f"the answer is no HTTP, or breaks off ({type(error).__name__})") from None
    except (OSError, ValueError) as error:
        raise NoAnswer(str(getattr(error, "reason", error))) from None


def asked_for_json(address: str, body: object = None, **query: str | int) -> Any:
    """Return the JSON of an answer. Raises NoAnswer if it is a refusal."""
    page = ask(address, body, **query)
    if page.status != 200:  # noqa: PLR2004 - OK
        raise NoAnswer(f"it answers {page.status}: {page.text.strip()[:80]}")
    return page.json()


def asked_of_mimir(mimir: str, query: str) -> Any:
    """Return the series of a query in PromQL, as of now. Raises NoAnswer; KeyError or TypeError if it is no Mimir."""
    return asked_for_json(f"{mimir}/prometheus/api/v1/query", query=query)["data"]["result"]


def total(page: str, name: str, **wanted: str) -> float:
    """Return the sum of a metric's samples that have these labels; a label given as "*" has to be there."""
    found = 0.0
    for sample in SAMPLE.finditer(page):
        if sample[1] == name:
            labels = dict(LABEL.findall(sample[2] or ""))
            if all(key in labels and value in ("*", labels[key]) for key, value in wanted.items()):
                found += float(sample[3])
    return found
