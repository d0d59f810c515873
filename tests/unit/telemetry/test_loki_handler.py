"""The handler that queues lines and pushes them from a thread of its own."""

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
    """The real pauses between tries are half a second and more."""
    monkeypatch.setattr(loki, "BACKOFF_S", (0.01, 0.02))
    monkeypatch.setattr(loki, "FLUSH_S", 0.02)


class Rig:
    """A handler under test, what it dropped, and the sinks it was given."""

    def __init__(self) -> None:
        self.dropped: dict[str, int] = {}
        self._sinks: list[Sink] = []
        self._handlers: list[BatchLokiHandler] = []

    def sink(self, *statuses: int | Reply | None) -> Sink:
        """A sink that answers so."""
        self._sinks.append(Sink(*statuses))
        return self._sinks[-1]

    def handler(self, url: str) -> BatchLokiHandler:
        """A handler that pushes there."""
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
    """Handlers and sinks that are gone after the test."""
    made = Rig()
    yield made
    made.end()


def emit(handler: logging.Handler, lines: int, text: Callable[[int], str] = str) -> None:
    """Log that many lines."""
    for number in range(lines):
        handler.handle(logging.getLogger("x").makeRecord("x", logging.INFO, __file__, 1, text(number), (), None))


def texts(pushes: list[Push]) -> list[str]:
    """The lines of all pushes in the order in which they came."""
    return [
        value[1].removeprefix("msg=")
        for push in pushes
        for stream in push.json["streams"]
        for value in stream["values"]
    ]


def nobody() -> str:
    """An address at which nobody listens."""
    with socket.socket() as reserved:
        reserved.bind((LOOPBACK, 0))
        return f"http://{LOOPBACK}:{reserved.getsockname()[1]}/loki/api/v1/push"


def test_lines_are_pushed_soon_without_anyone_closing(rig: Rig) -> None:
    """Within about a second: one wants to see the line of the request one just made."""
    sink = rig.sink()
    emit(rig.handler(sink.url), 3)
    eventually(lambda: texts(sink.pushes) == ["0", "1", "2"], "lines")


def test_close_sends_what_is_queued_in_pushes_of_a_thousand(rig: Rig) -> None:
    """Nothing is lost at the end of the process, nothing is sent twice, and the order stays."""
    sink = rig.sink()
    handler = rig.handler(sink.url)
    emit(handler, 2500)
    handler.close(10)
    assert texts(sink.pushes) == [str(number) for number in range(2500)]
    assert max(len(texts([push])) for push in sink.pushes) <= loki.BATCH_LINES
    assert rig.dropped == {}


def test_lines_that_come_during_a_push_wait_for_the_next_one(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under load there are always some: pushed at once, a few at a time, they cost a tenth of a server's time."""
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
    began = time.monotonic()
    sink.wait_for(5)
    assert time.monotonic() - began > 0.3


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_push_that_may_succeed_later_is_tried_again(rig: Rig, status: int) -> None:
    """Loki restarts, or is told too much at once: the lines wait."""
    sink = rig.sink(status, status, 204)
    emit(rig.handler(sink.url), 2)
    sink.wait_for(3)
    assert texts(sink.pushes[2:3]) == ["0", "1"]
    assert rig.dropped == {}


def test_a_push_that_was_refused_is_dropped_counted_and_told_once(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    """Sent again it would be refused again, and hold up all lines behind it."""
    sink = rig.sink(400, 204)
    handler = rig.handler(sink.url)
    emit(handler, 2)
    eventually(lambda: rig.dropped, "drop")
    emit(handler, 1, lambda _: "next")
    handler.close()
    assert rig.dropped == {"rejected": 2}
    assert texts(sink.pushes) == ["0", "1", "next"]
    dropped, again = capsys.readouterr().err.splitlines()
    assert "2 log lines dropped: Loki rejected them, status 400" in dropped
    assert again == 'level=info msg="log lines are accepted again"'


def test_a_server_that_is_away_costs_the_caller_nothing_and_a_bounded_memory(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The queue takes so many lines and no more; what it cannot take is counted, and told once, not per line."""
    monkeypatch.setattr(loki, "QUEUE_LINES", 50)
    handler = rig.handler(nobody())
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
    """One when it begins and one when it is over, however often a push is tried in between."""
    sink = rig.sink(*[503] * 9, 204)
    handler = rig.handler(sink.url)
    emit(handler, 1)
    sink.wait_for(10)
    handler.close()
    assert capsys.readouterr().err.splitlines() == [
        'level=warn msg="log lines wait: Loki is unavailable, status 503"',
        'level=info msg="log lines are accepted again"',
    ]


def test_a_server_that_hangs_holds_up_neither_callers_nor_the_end(rig: Rig) -> None:
    """It takes the connection and never answers: close() returns in its time all the same, and counts what is left."""
    sink = rig.sink(None)
    handler = rig.handler(sink.url)
    emit(handler, 1)
    sink.wait_for(1)
    before = time.monotonic()
    emit(handler, 500)
    handler.close(0.3)
    assert time.monotonic() - before < 10  # as long as a push is waited for
    assert rig.dropped == {"shutdown": 501}


def test_at_the_end_a_server_that_comes_back_in_time_still_gets_the_lines(rig: Rig) -> None:
    """Closing tries again until its time is over."""
    sink = rig.sink(500, 500, 204)
    handler = rig.handler(sink.url)
    emit(handler, 1)
    handler.close(5)
    assert texts(sink.pushes)[-1:] == ["0"]
    assert rig.dropped == {}


class Unspeakable:
    """A value that cannot be written."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_a_line_that_cannot_be_written_does_not_end_the_pushing(rig: Rig) -> None:
    """It is counted; were the thread to die of it, no line would ever be pushed again, and nobody would know."""
    sink = rig.sink()
    handler = rig.handler(sink.url)
    bad = logging.getLogger("x").makeRecord("x", logging.INFO, __file__, 1, "x", (), None)
    bad.fields = {"value": Unspeakable()}
    handler.handle(bad)
    eventually(lambda: rig.dropped == {"unwritable": 1}, "drop")
    emit(handler, 1, lambda _: "next")
    handler.close()
    assert texts(sink.pushes) == ["next"]


def test_closing_twice_is_no_fault(rig: Rig) -> None:
    """logging.shutdown() closes each handler once more."""
    handler = rig.handler(rig.sink().url)
    handler.close()
    handler.close()
    assert rig.dropped == {}


class Loki:
    """Judges pushes as Loki does: it rejects each line with "bad" in it, keeps the others once, and says so."""

    def __init__(self, say: Callable[[list[str], list[str]], Reply]) -> None:
        self.kept: set[str] = set()
        self._say = say

    def judge(self, push: Push) -> Reply:
        """Keep what is good, and answer."""
        lines = texts([push])
        bad = [line for line in lines if "bad" in line]
        answer = self._say(lines, bad) if bad else Reply(204)
        if "whole" not in answer.body.decode():
            self.kept.update(line for line in lines if line not in bad)
        return answer


STREAM = '{job="test", level="info"}'
TOO_OLD = f"entry for stream '{STREAM}' has timestamp too old: 2020-01-01T00:00:00Z, oldest acceptable timestamp is: x"


def says(text: str, status: int = 400) -> Reply:
    """An answer as Go's http.Error writes it."""
    return Reply(status, f"{text}\n".encode(), (("Content-Type", "text/plain; charset=utf-8"),))


# Source: Loki, pkg/util/errors/errors.go, pkg/validation/validate.go and pkg/ingester/stream.go.
LOKI_TEXTS: dict[str, Callable[[list[str], list[str]], Reply]] = {
    "one text for all": lambda _, bad: says(f"{len(bad)} errors like: {TOO_OLD}" if len(bad) > 1 else TOO_OLD),
    "a text for each": lambda _, bad: says(
        "; ".join(
            f"1 errors like: max entry size '9' bytes exceeded for stream '{STREAM}' while adding an entry with length"
            f" '{number + 10}' bytes"
            for number in range(len(bad))
        )
        if len(bad) > 1
        else f"max entry size '9' bytes exceeded for stream '{STREAM}' while adding an entry with length '10' bytes"
    ),
    "the ingester's": lambda lines, bad: says(
        "entry with timestamp 2026-01-01 00:00:00 +0000 UTC ignored, reason: 'entry too far behind, entry timestamp is:"
        f" x, oldest acceptable timestamp is: y',\nuser 'fake', total ignored: {len(bad)} out of {len(lines)} for"
        f" stream: {STREAM}"
    ),
    "an older ingester's": lambda lines, bad: says(
        f"entry with timestamp 2021-01-01 ignored, reason: 'entry out of order' for stream: {STREAM},\n"
        f"total ignored: {len(bad)} out of {len(lines)}"
    ),
}
UNKNOWN_TEXTS: dict[str, Callable[[list[str], list[str]], Reply]] = {
    "of a stream": lambda *_: says(f"stream '{STREAM}' has label value too long: 'x'"),
    "of the whole push": lambda *_: says("couldn't parse push request: whole"),
    "too large": lambda *_: Reply(413),
    "too many streams": lambda *_: says(
        f"maximum active stream limit exceeded when trying to create stream {STREAM}, reduce the number", 429
    ),
}


def bad_ones(*numbers: int) -> Callable[[int], str]:
    """Texts of lines, some of which Loki rejects."""
    return lambda number: f"{number} bad" if number in numbers else str(number)


@pytest.mark.parametrize("text", LOKI_TEXTS)
@pytest.mark.parametrize("bad", [(7,), (0, 7, 64), tuple(range(65))], ids=["one", "three", "all"])
def test_of_a_push_that_loki_rejects_in_part_only_that_part_is_dropped(
    rig: Rig, text: str, bad: tuple[int, ...]
) -> None:
    """By the number in Loki's own text, without a second push."""
    loki_, sink = Loki(LOKI_TEXTS[text]), rig.sink()
    sink.judge = loki_.judge
    handler = rig.handler(sink.url)
    emit(handler, 65, bad_ones(*bad))
    handler.close(10)
    assert rig.dropped == {"rejected": len(bad)}
    assert loki_.kept == {str(number) for number in range(65) if number not in bad}
    assert sorted(re.findall(r"\d+", line)[0] for line in texts(sink.pushes)) == sorted(map(str, range(65)))


@pytest.mark.parametrize("text", UNKNOWN_TEXTS)
@pytest.mark.parametrize("bad", [(7,), (0, 7, 64)], ids=["one", "three"])
def test_where_loki_does_not_say_how_many_the_bad_lines_are_found(rig: Rig, text: str, bad: tuple[int, ...]) -> None:
    """The batch is sent again in halves: a line that is accepted is neither lost nor counted."""
    loki_, sink = Loki(UNKNOWN_TEXTS[text]), rig.sink()
    sink.judge = loki_.judge
    handler = rig.handler(sink.url)
    emit(handler, 65, bad_ones(*bad))
    handler.close(10)
    assert rig.dropped == {"rejected": len(bad)}
    assert loki_.kept == {str(number) for number in range(65) if number not in bad}


def test_a_server_that_rejects_everything_is_not_asked_about_each_line(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search for good lines has a limit for each batch; the rest is counted as rejected."""
    monkeypatch.setattr(loki, "FLUSH_S", 60)
    sink = rig.sink(says("no"))
    handler = rig.handler(sink.url)
    emit(handler, 999)
    handler.close(10)
    assert rig.dropped == {"rejected": 999}
    assert len(sink.pushes) < 100


def test_a_line_that_cannot_be_written_does_not_take_others_with_it(rig: Rig) -> None:
    """Only that one is counted."""
    sink = rig.sink()
    handler = rig.handler(sink.url)
    bad = logging.getLogger("x").makeRecord("x", logging.INFO, __file__, 1, "x", (), None)
    bad.fields = {"value": Unspeakable()}
    emit(handler, 30)
    handler.handle(bad)
    emit(handler, 30)
    handler.close(10)
    assert rig.dropped == {"unwritable": 1}
    assert sorted(texts(sink.pushes)) == sorted([*map(str, range(30))] * 2)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Reply(200), "status 200 with no content type, not the answer of this endpoint"),
        (LOGIN_PAGE, "status 200 with an HTML page"),
        (REDIRECT, "status 302, a redirect to login.example:8443"),
        (Reply(307, headers=(("Location", "/elsewhere"),)), "status 307, a redirect to 127.0.0.1:"),
        (says("no org id", 401), "status 401: no org id"),
        (Reply(404, b"<html>", (("Content-Type", "text/html"),)), "status 404 with an HTML page"),
    ],
    ids=lambda value: "" if isinstance(value, str) else str(value.status),
)
def test_only_loki_s_own_answer_is_a_delivery(
    rig: Rig, answer: Reply, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Redirects are not followed; what a login page or another server answers is reported for what it is."""
    sink = rig.sink(answer, 204)
    handler = rig.handler(sink.url)
    emit(handler, 2)
    eventually(lambda: rig.dropped, "drop")
    emit(handler, 1, lambda _: "next")
    handler.close()
    assert rig.dropped == {"rejected": 2}
    dropped, again = capsys.readouterr().err.splitlines()
    assert f"2 log lines dropped: Loki rejected them, {said}" in dropped
    assert "s3cret" not in dropped
    assert again == 'level=info msg="log lines are accepted again"'


def test_each_push_has_the_headers_of_the_settings(rig: Rig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever a ~/.netrc of the user says about the host."""
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine {LOOPBACK} login other password other\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(netrc))
    sink = rig.sink()
    handler = BatchLokiHandler(sink.url, {}, lambda *_: None, {"X-Scope-OrgID": "team-a", "Authorization": "Bearer t"})
    emit(handler, 1)
    handler.close()
    (push,) = sink.pushes
    assert (push.headers["X-Scope-OrgID"], push.headers["Authorization"]) == ("team-a", "Bearer t")
