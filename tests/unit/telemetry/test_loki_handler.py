"""The handler that queues lines and pushes them from a thread of its own."""

import logging
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from common.telemetry.logs import loki
from common.telemetry.logs.loki import BatchLokiHandler
from tests.unit.telemetry.push_sink import LOOPBACK, Push, Sink
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

    def sink(self, *statuses: int | None) -> Sink:
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
