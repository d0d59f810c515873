"""Log records of Python are converted to fields and formatted, as on standard output."""

import json
import logging
import sys

import pytest
from opentelemetry.sdk.trace import TracerProvider

from common.telemetry.logs.records import JsonFormatter, LogfmtFormatter, TraceContextFilter, fields, labels, level
from tests.unit.telemetry.logfmt_grammar import parse


def record(
    text: str = "request served", *args: object, name: str = "services.x", levelno: int = logging.INFO, **extra: object
) -> logging.LogRecord:
    """Return a record as a logger creates it."""
    made = logging.getLogger(name).makeRecord(name, levelno, __file__, 1, text, args, None, extra=extra)
    made.created = 1_700_000_000.123
    return made


def test_inside_a_span_a_line_has_its_ids_in_hexadecimal() -> None:
    """The derived field in Grafana reads traceID=<32 hex>."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
    line = record()
    with tracer.start_as_current_span("x") as span:
        assert TraceContextFilter().filter(line)
    context = span.get_span_context()
    assert list(fields(line))[:2] == ["traceID", "spanID"]
    assert fields(line)["traceID"] == f"{context.trace_id:032x}"
    assert fields(line)["spanID"] == f"{context.span_id:016x}"


def test_outside_a_span_a_line_has_no_ids() -> None:
    """An ID of zeros would be a dead link."""
    line = record()
    assert TraceContextFilter().filter(line)
    assert fields(line) == {"msg": "request served"}


@pytest.mark.parametrize(
    "transport", ["urllib3.connectionpool", "requests", "grpc._channel", "opentelemetry.exporter.otlp"]
)
def test_debug_lines_of_the_transports_are_dropped_but_not_their_warnings(transport: str) -> None:
    """Otherwise, each push would log lines that cause the next push; a warning reports an unavailable collector."""
    assert not TraceContextFilter().filter(record(name=transport, levelno=logging.DEBUG))
    assert not TraceContextFilter().filter(record(name=transport, levelno=logging.INFO))
    assert TraceContextFilter().filter(record(name=transport, levelno=logging.WARNING))


def test_debug_lines_of_the_services_are_kept() -> None:
    """`requests` is a transport, `services.server.request_parsing` is not."""
    assert TraceContextFilter().filter(record(name="services.server.request_parsing", levelno=logging.DEBUG))


def test_fields_of_the_caller_come_before_the_text_and_tags_are_separate() -> None:
    """`fields` are pairs of the line, and `tags` are labels of the stream."""
    line = record(fields={"http.method": "GET", "status": "SUCCESS"}, tags={"beast": "unicorn"})
    assert fields(line) == {"http.method": "GET", "status": "SUCCESS", "msg": "request served"}
    assert labels(line) == {"beast": "unicorn"}


@pytest.mark.parametrize("wrong", [None, "text", 7, ["a"]])
def test_fields_that_are_not_a_mapping_are_ignored(wrong: object) -> None:
    """A library's record may use the same names for something else."""
    line = record(fields=wrong, tags=wrong)
    assert fields(line) == {"msg": "request served"}
    assert labels(line) == {}


def test_an_exception_has_its_type_its_message_and_its_stack_trace() -> None:
    """The line uses the names of the OpenTelemetry conventions."""
    line = record()
    try:
        raise ValueError("out of\nrange")
    except ValueError:
        line.exc_info = sys.exc_info()
    written = fields(line)
    assert written["exception.type"] == "ValueError"
    assert written["exception.message"] == "out of\nrange"
    assert "Traceback" in str(written["exception.stacktrace"])
    assert len(LogfmtFormatter().format(line).splitlines()) == 1


def test_a_text_whose_arguments_do_not_match_is_written_unformatted() -> None:
    """A wrong log call in a library must not raise within a request or end the thread that pushes."""
    assert fields(record("%d beasts", "many"))["msg"] == "%d beasts"


@pytest.mark.parametrize(
    ("levelno", "name"),
    [
        (logging.DEBUG, "debug"),
        (logging.INFO, "info"),
        (logging.WARNING, "warn"),
        (logging.ERROR, "error"),
        (logging.CRITICAL, "fatal"),
    ],
)
def test_levels_have_the_short_names_that_grafana_recognizes(levelno: int, name: str) -> None:
    """Dashboards query the label `level`."""
    assert level(record(levelno=levelno)) == name


def test_a_line_on_standard_output_starts_with_its_time_and_level() -> None:
    """In Loki, they are outside the line."""
    line = LogfmtFormatter().format(record(fields={"a": 1}, tags={"beast": "owlbear"}, levelno=logging.WARNING))
    assert parse(line) == [
        ("time", "2023-11-14T22:13:20.123+00:00"),
        ("level", "warn"),
        ("beast", "owlbear"),
        ("a", "1"),
        ("msg", "request served"),
    ]


def test_a_json_line_has_the_content_of_logfmt_with_common_names() -> None:
    """A pipeline for any program's JSON can read it; numbers stay numbers, and no character breaks the line."""
    made = record(
        'not\n"closed"',
        fields={"http.method": "GET", "count": 2, "reason": None},
        tags={"beast": "owlbear"},
        json_fields={"path": "/owlbear", "duration": 0.5},
    )
    made.trace_id, made.span_id = "a" * 32, "b" * 16
    line = JsonFormatter().format(made)
    assert len(line.splitlines()) == 1
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.123+00:00",
        "level": "info",
        "beast": "owlbear",
        "traceID": "a" * 32,
        "spanID": "b" * 16,
        "method": "GET",
        "count": 2,
        "msg": 'not\n"closed"',
        "path": "/owlbear",
        "duration": 0.5,
    }
