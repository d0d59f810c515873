"""The handler queues lines and pushes them to Loki from a separate thread."""

import logging
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.telemetry.logs import loki
from common.telemetry.logs.loki import BatchLokiHandler
from tests.unit.telemetry.push_sink import LOGIN_PAGE, LOOPBACK, REDIRECT, Push, Reply, Sink
from tests.unit.waiting import eventually


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses between attempts, which are half a second and more."""
    monkeypatch.setattr(loki, "BACKOFF_S", (0.01, 0.02))
    monkeypatch.setattr(loki, "FLUSH_S", 0.02)


class Rig:
    """Creates handlers and sinks for a test, and counts dropped lines."""

    def __init__(self) -> None:
        self.dropped: dict[str, int] = {}
        self._sinks: list[Sink] = []
        self._handlers: list[BatchLokiHandler] = []

    def sink(self, *statuses: int | Reply | None) -> Sink:
        """Start a sink with these responses."""
        self._sinks.append(Sink(*statuses))
        return self._sinks[-1]

    def handler(self, url: str) -> BatchLokiHandler:
        """Return a handler that pushes to a URL."""
        self._handlers.append(BatchLokiHandler(url, {"job": "test"}, self._drop))
        return self._handlers[-1]

    def end(self) -> None:
        """Close everything and wait for the threads."""
        for handler in self._handlers:
            handler.close(0.1)
        for sink in self._sinks:
            sink.close()
        for handler in self._handlers:
            eventually(lambda thread=handler._thread: not thread.is_alive(), "end of the pushing thread")  # type: ignore[misc]

    def _drop(self, lines: int, reason: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + lines


@pytest.fixture
def rig() -> Iterator[Rig]:
    """Return a rig that is closed after the test."""
    made = Rig()
    yield made
    made.end()


def emit(handler: logging.Handler, lines: int, text: Callable[[int], str] = str) -> None:
    """Log that many lines."""
    for number in range(lines):
        handler.handle(logging.getLogger("x").makeRecord("x", logging.INFO, __file__, 1, text(number), (), None))


def texts(pushes: list[Push]) -> list[str]:
    """Return the lines of all pushes in order of arrival."""
    return [
        value[1].removeprefix("msg=")
        for push in pushes
        for stream in push.json["streams"]
        for value in stream["values"]
    ]


def closed_port_url() -> str:
    """Return a URL with a port without a listener."""
    with socket.socket() as reserved:
        reserved.bind((LOOPBACK, 0))
        return f"http://{LOOPBACK}:{reserved.getsockname()[1]}/loki/api/v1/push"


def test_lines_are_pushed_soon_without_closing(rig: Rig) -> None:
    """A user wants to see the line of a request within about a second."""
    sink = rig.sink()
    emit(rig.handler(sink.url), 3)
    eventually(lambda: texts(sink.pushes) == ["0", "1", "2"], "lines")


def test_close_sends_queued_lines_in_batches_of_a_thousand(rig: Rig) -> None:
    """Nothing is lost when the process ends, nothing is sent twice, and the order is stored."""
    sink = rig.sink()
    handler = rig.handler(sink.url)
    emit(handler, 2500)
    handler.close(10)
    assert texts(sink.pushes) == [str(number) for number in range(2500)]
    assert max(len(texts([push])) for push in sink.pushes) <= loki.BATCH_LINES
    assert rig.dropped == {}


def test_lines_that_arrive_during_a_push_wait_for_the_next_one(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pushing a few lines at a time under load would cost a tenth of a server's CPU time."""
    monkeypatch.setattr(loki, "FLUSH_S", 0.1)
    sink = rig.sink()
    handler = rig.handler(sink.url)
    push = handler.emitter.send

    def push_and_log(batch: list[logging.LogRecord]) -> None:
        push(batch)
        emit(handler, 1)

    monkeypatch.setattr(handler.emitter, "send", push_and_log)
    emit(handler, 1)
    sink.wait_for(1)
    started = time.monotonic()
    sink.wait_for(5)
    assert time.monotonic() - started > 0.3


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_temporary_failure_of_a_push_is_retried(rig: Rig, status: int) -> None:
    """Loki restarts, or receives too much at once, and the lines wait."""
    sink = rig.sink(status, status, 204)
    emit(rig.handler(sink.url), 2)
    sink.wait_for(3)
    assert texts(sink.pushes[2:3]) == ["0", "1"]
    assert rig.dropped == {}


def test_a_rejected_push_is_dropped_counted_and_reported_once(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    """A retry would be rejected again and would block all later lines."""
    sink = rig.sink(400, 204)
    handler = rig.handler(sink.url)
    emit(handler, 2)
    eventually(lambda: rig.dropped, "drop")
    emit(handler, 1, lambda _: "next")
    handler.close()
    assert rig.dropped == {"rejected": 2}
    assert texts(sink.pushes) == ["0", "1", "next"]
    dropped, recovered = capsys.readouterr().err.splitlines()
    assert "2 log lines dropped: Loki rejected them, status 400" in dropped
    assert recovered == 'level=info msg="log lines are accepted again"'


def test_an_unavailable_server_blocks_no_caller_and_uses_bounded_memory(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The queue has a limit; lines above it are counted and reported once, not per line."""
    monkeypatch.setattr(loki, "QUEUE_LINES", 50)
    handler = rig.handler(closed_port_url())
    emit(handler, 80)
    assert rig.dropped == {"queue_full": 30}
    handler.close(0.2)
    assert rig.dropped == {"queue_full": 30, "shutdown": 50}
    *waiting, full, end = capsys.readouterr().err.splitlines()
    assert all("log lines wait: Loki is unavailable, ConnectionError" in line for line in waiting)
    assert len(waiting) <= 1
    assert "1 log lines dropped: 50 wait for Loki" in full
    assert "79 log lines dropped: Loki did not accept them before the process ended" in end


def test_an_outage_of_loki_is_two_lines(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    """One is written at the start and one at the end, however many pushes are tried in between."""
    sink = rig.sink(*[503] * 9, 204)
    handler = rig.handler(sink.url)
    emit(handler, 1)
    sink.wait_for(10)
    handler.close()
    assert capsys.readouterr().err.splitlines() == [
        'level=warn msg="log lines wait: Loki is unavailable, status 503"',
        'level=info msg="log lines are accepted again"',
    ]


def test_a_server_that_hangs_delays_neither_callers_nor_the_shutdown(rig: Rig) -> None:
    """It accepts connections and never responds: close() returns after its timeout and counts the remaining lines."""
    sink = rig.sink(None)
    handler = rig.handler(sink.url)
    emit(handler, 1)
    sink.wait_for(1)
    before = time.monotonic()
    emit(handler, 500)
    handler.close(0.3)
    assert time.monotonic() - before < 10  # the timeout of a push
    assert rig.dropped == {"shutdown": 501}


def test_at_shutdown_a_server_that_recovers_in_time_gets_the_lines(rig: Rig) -> None:
    """close() retries until its timeout."""
    sink = rig.sink(500, 500, 204)
    handler = rig.handler(sink.url)
    emit(handler, 1)
    handler.close(5)
    assert texts(sink.pushes)[-1:] == ["0"]
    assert rig.dropped == {}


class Unprintable:
    """A value whose conversion to text fails."""

    def __str__(self) -> str:
        raise RuntimeError("injected")


def test_a_line_that_cannot_be_formatted_does_not_stop_the_pushes(rig: Rig) -> None:
    """It is counted. If the thread died, no line would be pushed again, and nothing would report it."""
    sink = rig.sink()
    handler = rig.handler(sink.url)
    bad = logging.getLogger("x").makeRecord("x", logging.INFO, __file__, 1, "x", (), None)
    bad.fields = {"value": Unprintable()}
    handler.handle(bad)
    eventually(lambda: rig.dropped == {"unwritable": 1}, "drop")
    emit(handler, 1, lambda _: "next")
    handler.close()
    assert texts(sink.pushes) == ["next"]


def test_closing_twice_is_not_an_error(rig: Rig) -> None:
    """logging.shutdown() closes each handler again."""
    handler = rig.handler(rig.sink().url)
    handler.close()
    handler.close()
    assert rig.dropped == {}


class Loki:
    """Responds to pushes like Loki: it rejects lines that contain "bad", stores the others, and reports the numbers."""

    def __init__(self, report: Callable[[list[str], list[str]], Reply]) -> None:
        self.stored: set[str] = set()
        self._report = report

    def respond(self, push: Push) -> Reply:
        """Store the good lines and return the response."""
        lines = texts([push])
        bad = [line for line in lines if "bad" in line]
        reply = self._report(lines, bad) if bad else Reply(204)
        if "whole" not in reply.body.decode():
            self.stored.update(line for line in lines if line not in bad)
        return reply


STREAM = '{job="test", level="info"}'
TOO_OLD = f"entry for stream '{STREAM}' has timestamp too old: 2020-01-01T00:00:00Z, oldest acceptable timestamp is: x"


def error(text: str, status: int = 400) -> Reply:
    """Return a response in the format of Go's http.Error."""
    return Reply(status, f"{text}\n".encode(), (("Content-Type", "text/plain; charset=utf-8"),))


# Source: Loki, pkg/util/errors/errors.go, pkg/validation/validate.go and pkg/ingester/stream.go.
LOKI_TEXTS: dict[str, Callable[[list[str], list[str]], Reply]] = {
    "one text for all": lambda _, bad: error(f"{len(bad)} errors like: {TOO_OLD}" if len(bad) > 1 else TOO_OLD),
    "a text for each": lambda _, bad: error(
        "; ".join(
            f"1 errors like: max entry size '9' bytes exceeded for stream '{STREAM}' while adding an entry with length"
            f" '{number + 10}' bytes"
            for number in range(len(bad))
        )
        if len(bad) > 1
        else f"max entry size '9' bytes exceeded for stream '{STREAM}' while adding an entry with length '10' bytes"
    ),
    "the ingester's": lambda lines, bad: error(
        "entry with timestamp 2026-01-01 00:00:00 +0000 UTC ignored, reason: 'entry too far behind, entry timestamp is:"
        f" x, oldest acceptable timestamp is: y',\nuser 'fake', total ignored: {len(bad)} out of {len(lines)} for"
        f" stream: {STREAM}"
    ),
    "an older ingester's": lambda lines, bad: error(
        f"entry with timestamp 2021-01-01 ignored, reason: 'entry out of order' for stream: {STREAM},\n"
        f"total ignored: {len(bad)} out of {len(lines)}"
    ),
}
UNKNOWN_TEXTS: dict[str, Callable[[list[str], list[str]], Reply]] = {
    "of a stream": lambda *_: error(f"stream '{STREAM}' has label value too long: 'x'"),
    "of the whole push": lambda *_: error("couldn't parse push request: whole"),
    "too large": lambda *_: Reply(413),
    "too many streams": lambda *_: error(
        f"maximum active stream limit exceeded when trying to create stream {STREAM}, reduce the number", 429
    ),
}


def bad_ones(*numbers: int) -> Callable[[int], str]:
    """Return texts of lines, some of which Loki rejects."""
    return lambda number: f"{number} bad" if number in numbers else str(number)


@pytest.mark.parametrize("text", LOKI_TEXTS)
@pytest.mark.parametrize("bad", [(7,), (0, 7, 64), tuple(range(65))], ids=["one", "three", "all"])
def test_only_the_lines_that_loki_rejects_in_a_push_are_dropped(rig: Rig, text: str, bad: tuple[int, ...]) -> None:
    """Their number is read from Loki's message, without a second push."""
    loki_, sink = Loki(LOKI_TEXTS[text]), rig.sink()
    sink.respond = loki_.respond
    handler = rig.handler(sink.url)
    emit(handler, 65, bad_ones(*bad))
    handler.close(10)
    assert rig.dropped == {"rejected": len(bad)}
    assert loki_.stored == {str(number) for number in range(65) if number not in bad}
    assert sorted(re.findall(r"\d+", line)[0] for line in texts(sink.pushes)) == sorted(map(str, range(65)))


@pytest.mark.parametrize("text", UNKNOWN_TEXTS)
@pytest.mark.parametrize("bad", [(7,), (0, 7, 64)], ids=["one", "three"])
def test_without_a_number_from_loki_the_bad_lines_are_found_by_bisection(
    rig: Rig, text: str, bad: tuple[int, ...]
) -> None:
    """The batch is sent again in halves: an accepted line is neither lost nor counted."""
    loki_, sink = Loki(UNKNOWN_TEXTS[text]), rig.sink()
    sink.respond = loki_.respond
    handler = rig.handler(sink.url)
    emit(handler, 65, bad_ones(*bad))
    handler.close(10)
    assert rig.dropped == {"rejected": len(bad)}
    assert loki_.stored == {str(number) for number in range(65) if number not in bad}


def test_lines_of_several_streams_are_counted_although_loki_reports_the_last_one(rig: Rig) -> None:
    """The ingester's answer has the number of one stream, and none if the last stream of the push is accepted."""
    sink = rig.sink()
    stored: set[str] = set()

    def respond(push: Push) -> Reply:
        reply = Reply(204)
        for stream in push.json["streams"]:
            lines = [value[1].removeprefix("msg=") for value in stream["values"]]
            bad = [line for line in lines if "bad" in line]
            stored.update(line for line in lines if line not in bad)
            reply = LOKI_TEXTS["the ingester's"](lines, bad) if bad else Reply(204)
        return reply

    sink.respond = respond
    handler = rig.handler(sink.url)
    for number in range(60):
        level = (logging.INFO, logging.WARNING, logging.ERROR)[number % 3]
        text = f"{number} bad" if number < 5 else str(number)
        handler.handle(logging.getLogger("x").makeRecord("x", level, __file__, 1, text, (), None))
    handler.close(10)
    assert rig.dropped == {"rejected": 5}
    assert stored == {str(number) for number in range(5, 60)}


def test_the_number_of_retries_for_a_rejected_batch_is_limited(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The remaining lines are counted as rejected."""
    monkeypatch.setattr(loki, "FLUSH_S", 60)
    sink = rig.sink(error("no"))
    handler = rig.handler(sink.url)
    emit(handler, 999)
    handler.close(10)
    assert rig.dropped == {"rejected": 999}
    assert len(sink.pushes) < 100


def test_a_line_that_cannot_be_formatted_does_not_affect_others(rig: Rig) -> None:
    """Only that line is counted."""
    sink = rig.sink()
    handler = rig.handler(sink.url)
    bad = logging.getLogger("x").makeRecord("x", logging.INFO, __file__, 1, "x", (), None)
    bad.fields = {"value": Unprintable()}
    emit(handler, 30)
    handler.handle(bad)
    emit(handler, 30)
    handler.close(10)
    assert rig.dropped == {"unwritable": 1}
    assert sorted(texts(sink.pushes)) == sorted([*map(str, range(30))] * 2)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply(200), "status 200 with no content type, not the answer of this endpoint"),
        (LOGIN_PAGE, "status 200 with an HTML page"),
        (REDIRECT, "status 302, a redirect to login.example:8443"),
        (Reply(307, headers=(("Location", "/elsewhere"),)), "status 307, a redirect to 127.0.0.1:"),
        (error("no org id", 401), "status 401: no org id"),
        (Reply(404, b"<html>", (("Content-Type", "text/html"),)), "status 404 with an HTML page"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value.status),
)
def test_only_a_response_of_loki_is_a_delivery(
    rig: Rig, reply: Reply, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Redirects are not followed, and a response of a login page or another server is reported as such."""
    sink = rig.sink(reply, 204)
    handler = rig.handler(sink.url)
    emit(handler, 2)
    eventually(lambda: rig.dropped, "drop")
    emit(handler, 1, lambda _: "next")
    handler.close()
    assert rig.dropped == {"rejected": 2}
    dropped, recovered = capsys.readouterr().err.splitlines()
    assert f"2 log lines dropped: Loki rejected them, {message}" in dropped
    assert "s3cret" not in dropped
    assert recovered == 'level=info msg="log lines are accepted again"'


def test_each_push_has_the_headers_of_the_settings(rig: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The user's ~/.netrc does not affect them."""
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {LOOPBACK} login other password other\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(netrc))
    sink = rig.sink()
    handler = BatchLokiHandler(sink.url, {}, lambda *_: None, {"X-Scope-OrgID": "team-a", "Authorization": "Bearer t"})
    emit(handler, 1)
    handler.close()
    (push,) = sink.pushes
    assert (push.headers["X-Scope-OrgID"], push.headers["Authorization"]) == ("team-a", "Bearer t")
