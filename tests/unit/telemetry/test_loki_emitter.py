"""The body of a push to Loki has one stream per label set, with timestamps and trace IDs."""

import logging

import pytest
import requests

from common.telemetry.logs.loki import BatchEmitter, Rejected
from tests.unit.telemetry.push_sink import Sink

LABELS = {"service_name": "mythical-server", "job": "mythical-server", "namespace": "production"}


def record(text: str, levelno: int = logging.INFO, **extra: object) -> logging.LogRecord:
    """Return a record with a fixed time."""
    made = logging.getLogger("x").makeRecord("x", levelno, __file__, 1, text, (), None, extra=extra)
    made.created = 1_700_000_000.5
    return made


def test_lines_are_grouped_by_their_labels_in_order() -> None:
    """Loki expects one stream per set of labels, which include the tags and the level."""
    body = BatchEmitter("http://x", LABELS).build_batch(
        [
            record("one", tags={"beast": "unicorn"}),
            record("two", tags={"beast": "owlbear"}),
            record("three", tags={"beast": "unicorn"}),
            record("four", levelno=logging.ERROR, tags={"beast": "unicorn"}),
        ]
    )
    streams = [(stream["stream"], [value[1] for value in stream["values"]]) for stream in body["streams"]]
    assert streams == [
        ({**LABELS, "level": "info", "beast": "unicorn"}, ["msg=one", "msg=three"]),
        ({**LABELS, "level": "info", "beast": "owlbear"}, ["msg=two"]),
        ({**LABELS, "level": "error", "beast": "unicorn"}, ["msg=four"]),
    ]


def test_a_line_has_the_time_of_its_event_in_nanoseconds() -> None:
    """The time of the push may be seconds later."""
    (stream,) = BatchEmitter("http://x", LABELS).build_batch([record("x")])["streams"]
    assert stream["values"] == [["1700000000500000000", "msg=x"]]


def test_the_ids_of_the_span_are_structured_metadata() -> None:
    """As labels, they would create a stream per trace; in the line only, they could not be queried."""
    (stream,) = BatchEmitter("http://x", LABELS).build_batch([record("x", trace_id="a" * 32, span_id="b" * 16)])[
        "streams"
    ]
    ((_, line, metadata),) = stream["values"]
    assert metadata == {"trace_id": "a" * 32, "span_id": "b" * 16}
    assert line.startswith(f"traceID={'a' * 32} spanID={'b' * 16} ")
    assert set(stream["stream"]) == {*LABELS, "level"}


def test_names_of_labels_are_made_valid_for_loki() -> None:
    """Loki responds with 400 to a label with a dot, and the whole push is lost."""
    (stream,) = BatchEmitter("http://x", LABELS).build_batch([record("x", tags={"http.method": "GET"})])["streams"]
    assert stream["stream"]["http_method"] == "GET"


def test_a_push_is_gzipped_json() -> None:
    """It is about fifty times smaller than the lines, and every Loki accepts it."""
    sink, emitter = Sink(), None
    try:
        emitter = BatchEmitter(sink.url, LABELS)
        emitter.send([record("x", tags={"beast": "unicorn \ud800"})])
        (push,) = sink.pushes
        assert push.path == "/loki/api/v1/push"
        assert push.headers["Content-Type"] == "application/json"
        assert push.headers["Content-Encoding"] == "gzip"
        assert push.json["streams"][0]["values"][0][1] == "msg=x"
    finally:
        if emitter:
            emitter.close()
        sink.close()


@pytest.mark.parametrize(
    ("status", "expected"),
    [(429, requests.HTTPError), (500, requests.HTTPError), (503, requests.HTTPError), (400, Rejected), (404, Rejected)],
)
def test_a_rejection_shows_whether_a_retry_can_succeed(status: int, expected: type[Exception]) -> None:
    """Too many requests and a server error are temporary; an invalid push stays invalid."""
    sink = Sink(status)
    emitter = BatchEmitter(sink.url, LABELS)
    try:
        with pytest.raises(expected, match=str(status)):
            emitter.send([record("x")])
    finally:
        emitter.close()
        sink.close()
