"""What a receiver of telemetry answers to a push, whether that is a delivery, and one line when that changes."""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
from google.protobuf.message import DecodeError
from opentelemetry.metrics import Counter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from common.core.pacing import RateLimitedLog

log = logging.getLogger(__name__)

# Characters of a response's text that a line shows.
SHOWN_TEXT = 200
LOG_INTERVAL_S = 30.0
UNKNOWN = "the collector did not accept them"

_thread = threading.local()


class NotDelivered(Exception):
    """What answered a push with success is not the endpoint that it was for."""


@dataclass
class Answer:
    """The answer to a push: how many of its items the collector rejected if it accepted it, and why some are lost.

    `warning` is the text of an answer that accepts all.
    """

    rejected: int = 0
    cause: str = UNKNOWN
    warning: str = ""


@contextmanager
def pushing() -> Iterator[Answer]:
    """Give what becomes the answer to the push that this thread makes in the block."""
    _thread.answer = answer = Answer()
    try:
        yield answer
    finally:
        del _thread.answer
        if answer.warning:
            _report_warning(answer.warning)


@lru_cache(maxsize=8)
def _report_warning(text: str) -> None:
    """Write a line the first time that a collector says this."""
    log.warning("telemetry export accepted with a warning", extra={"fields": {"reason": text}})


def is_not_about_a_push(record: logging.LogRecord) -> bool:
    """Return whether this thread is not pushing: a filter for handlers.

    The SDK logs each push that fails, several times, which would be another line to push. The first becomes the cause.
    """
    answer: Answer | None = getattr(_thread, "answer", None)
    if answer and answer.cause == UNKNOWN and record.levelno >= logging.WARNING:
        answer.cause = record.getMessage()
    return answer is None


def read_answer(body: bytes) -> None:
    """Read what an OTLP receiver says of a push that it accepted. Raises NotDelivered if it is something else.

    Source: OpenTelemetry Protocol specification, "Partial Success"; the answers for all signals have one encoding.
    """
    try:
        partial = ExportTraceServiceResponse.FromString(body).partial_success
    except DecodeError:
        note_cause("an answer that cannot be read")
        raise NotDelivered(UNKNOWN) from None
    answer = getattr(_thread, "answer", None)
    if answer and partial.rejected_spans <= 0:
        answer.warning = partial.error_message[:SHOWN_TEXT]
    elif answer:
        answer.rejected = partial.rejected_spans
        answer.cause = f"the collector rejected a part: {partial.error_message[:SHOWN_TEXT] or 'it does not say why'}"


def note_cause(cause: str) -> None:
    """Set why the push of this thread fails."""
    if answer := getattr(_thread, "answer", None):
        answer.cause = cause[:SHOWN_TEXT]


def check_response(response: requests.Response, *_: Any, **__: Any) -> None:
    """Raise NotDelivered for a response that the SDK's exporters take for a success, and is none: a hook of requests.

    A response without body and type is accepted: it encodes full success, and some receivers send no more.
    """
    kind, body = content_type(response), response.content  # read in any case, which gives the connection back
    expected = kind == "application/x-protobuf" or not (kind or body)
    if expected and HTTPStatus.OK <= response.status_code < HTTPStatus.MULTIPLE_CHOICES:
        read_answer(body)
        return
    note_cause(describe(response))
    if response.status_code < HTTPStatus.BAD_REQUEST:
        raise NotDelivered(describe(response))


def with_headers(headers: Mapping[str, str]) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
    """Return an `auth` of requests that adds headers; plain ones would be overwritten by a ~/.netrc of the user."""

    def add(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(headers)
        return request

    return add


def otlp_session() -> requests.Session:
    """Return a session for an exporter of OTLP over HTTP that accepts only the answers of OTLP receivers."""
    session = requests.Session()
    session.hooks["response"].append(check_response)
    return session


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


class Exports:
    """Counts the exported items of a signal, and reports when some begin to be lost and when none is any more.

    A delivery that fails now and then reports each twice a minute at most. Source of `error.type`: OpenTelemetry
    semantic conventions, "SDK metrics".
    """

    def __init__(self, signal: str, counter: Counter) -> None:
        self._signal = signal
        self._counter = counter
        self._limit = RateLimitedLog(LOG_INTERVAL_S)
        self._losing = False
        self._lost = 0

    def record(self, items: int, answer: Answer, *, delivered: bool) -> None:
        """Count the items of a push, and write a line if that changes the state."""
        lost = min(answer.rejected, items) if delivered else items
        if delivered and (items > lost or not lost):
            self._counter.add(items - lost)
        if lost or not delivered:
            self._counter.add(lost, {"error.type": "rejected" if delivered else "export_failed"})
        self._lost += lost
        fields = {"signal": self._signal, "count": self._lost}
        if lost and not self._losing and self._limit.record():
            self._losing, self._lost = True, 0
            log.warning("telemetry export failed", extra={"fields": {**fields, "error": answer.cause}})
        elif not lost and self._losing:
            self._losing, self._lost = False, 0
            log.info("telemetry export recovered", extra={"fields": fields})
