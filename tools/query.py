"""HTTP queries to the services, the gateway and the back ends. Local addresses are never asked through a proxy."""

import http.client
import json
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from common.core.address import is_local, shown, split_credentials

TIMEOUT_S = 5.0
OK, FIRST_ERROR = 200, 400


class QueryError(Exception):
    """A query without a usable answer; the text says why."""


class NoAnswer(QueryError):
    """Nothing answered, or what answered does not speak HTTP."""


class UnexpectedAnswer(QueryError):
    """A status other than 200, or a body that is not JSON; `answer` is what came."""

    def __init__(self, text: str, answer: "Answer") -> None:
        super().__init__(text)
        self.answer = answer


@dataclass(frozen=True)
class Answer:
    """The status and the body of an HTTP response, whatever the status."""

    status: int
    body: bytes

    @property
    def text(self) -> str:
        """The body as text; bytes that are not UTF-8 are replaced."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """Return the parsed body. Raises UnexpectedAnswer if it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            raise UnexpectedAnswer(f"the answer is not JSON: {self.text[:60]!r}", self) from None


class _AnyStatus(urllib.request.HTTPErrorProcessor):
    """Returns responses with an error status instead of raising; redirects are still followed."""

    def http_response(self, request: urllib.request.Request, response: http.client.HTTPResponse) -> Any:
        if response.status >= FIRST_ERROR:
            return response
        return super().http_response(request, response)

    https_response = http_response


def send(
    url: str, *, method: str | None = None, body: object = None, timeout_s: float = TIMEOUT_S, **query: Any
) -> Answer:
    """Send a request and return the response, whatever its status.

    `body` is sent as JSON, with POST unless `method` says otherwise; `query` is appended to the URL.
    Raises NoAnswer if there is no HTTP response within `timeout_s` seconds.
    """
    try:
        bare, authorization = split_credentials(url)
    except ValueError:  # its text may contain the credentials
        raise NoAnswer(f"{shown(url)!r} is not an HTTP address") from None
    full = f"{bare}?{urlencode(query)}" if query else bare
    data = None if body is None else json.dumps(body).encode()
    try:
        if urlsplit(full).scheme not in ("http", "https"):
            raise NoAnswer(f"{shown(url)!r} is not an HTTP address")
        headers = {"Authorization": authorization} if authorization else {}
        headers |= {} if data is None else {"Content-Type": "application/json"}
        request = urllib.request.Request(full, data, headers, method=method)  # noqa: S310 - the scheme is checked above
        with _opener(full).open(request, timeout=timeout_s) as response:
            return Answer(response.status, response.read())
    except http.client.HTTPException as error:
        raise NoAnswer(f"the answer is not HTTP, or is incomplete ({type(error).__name__})") from None
    except (OSError, ValueError) as error:
        raise NoAnswer(str(getattr(error, "reason", error))) from None


def get_json(url: str, *, body: object = None, timeout_s: float = TIMEOUT_S, **query: Any) -> Any:
    """Return the parsed body of a response with status 200. Raises NoAnswer or UnexpectedAnswer."""
    answer = send(url, body=body, timeout_s=timeout_s, **query)
    if answer.status != OK:
        raise UnexpectedAnswer(f"status {answer.status}: {answer.text.strip()[:200]}", answer)
    return answer.json()


def query_mimir(mimir: str, promql: str, *, timeout_s: float = TIMEOUT_S) -> list[Any]:
    """Return the series of an instant query. Raises QueryError, or KeyError or TypeError if it is not a Mimir."""
    answer = get_json(f"{mimir}/prometheus/api/v1/query", query=promql, timeout_s=timeout_s)
    return list(answer["data"]["result"])


def is_up(url: str, *, timeout_s: float = 1.0) -> bool:
    """Return whether GET `url` answers in time with a status below 400."""
    try:
        return send(url, timeout_s=timeout_s).status < FIRST_ERROR
    except NoAnswer:
        return False


def _opener(url: str) -> urllib.request.OpenerDirector:
    # HTTP_PROXY without NO_PROXY would send queries to the suite to the proxy, which answers for itself.
    direct = [urllib.request.ProxyHandler({})] if is_local(urlsplit(url).hostname or "") else []
    return urllib.request.build_opener(_AnyStatus(), *direct)
