"""Log lines that the collector does not accept over OTLP are counted and reported."""

import logging
import threading
from collections import Counter
from collections.abc import Callable

import pytest
from opentelemetry.sdk.resources import Resource

from common.telemetry.logs import LOG_INTERVAL_S, DropReporter
from common.telemetry.logs.otlp import OtlpHandler
from common.telemetry.settings import Collector
from tests.unit.telemetry.push_sink import LOOPBACK, Sink
from tests.unit.waiting import eventually

QUEUE = 600
BATCH = 512


class DroppedLines:
    """Counts dropped lines by reason."""

    def __init__(self) -> None:
        self.by_reason: Counter[str] = Counter()

    def __call__(self, lines: int, reason: str) -> None:
        """Count the lines."""
        self.by_reason[reason] += lines


def handler(port: int, dropped: Callable[[int, str], None], protocol: str = "http/protobuf") -> OtlpHandler:
    """Return a handler that sends to a port of this machine."""
    return OtlpHandler(Resource({"service.name": "test"}), Collector(LOOPBACK, port, protocol), dropped, QUEUE)


def log_lines(to: logging.Handler, lines: int) -> None:
    """Handle that many log records."""
    for number in range(lines):
        to.handle(logging.LogRecord("services.x", logging.INFO, "", 0, "line %s", (number,), None))


def test_lines_that_the_collector_rejects_are_counted_and_reported_once(capsys: pytest.CaptureFixture[str]) -> None:
    """There are two batches and one line on standard error with the reason; the rest is reported at the end."""
    sink, dropped = Sink(400), DroppedLines()
    logs = handler(sink.port, dropped)
    log_lines(logs, BATCH)
    eventually(lambda: dropped.by_reason["export_failed"] == BATCH, "loss")
    log_lines(logs, 88)
    logs.close()
    sink.close()
    assert dropped.by_reason == {"export_failed": 600}
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith(f'level=warn msg="{BATCH} log lines dropped: ')
    assert last.startswith('level=warn msg="88 log lines dropped: ')


def test_a_line_that_cannot_be_formatted_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """The caller, which only logs an error, does not get another one."""

    class Unprintable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("injected")

    sink, dropped = Sink(200), DroppedLines()
    logs = handler(sink.port, dropped)
    error = Unprintable()
    of_error = logging.LogRecord("services.x", logging.ERROR, "", 0, "failed", (), (Unprintable, error, None))
    bad = logging.LogRecord("services.x", logging.INFO, "", 0, "bad", (), None)
    bad.fields = {"value": error}
    for record in (of_error, bad):
        logs.handle(record)
    logs.close()
    sink.close()
    assert dropped.by_reason == {"unwritable": 1}
    assert "RuntimeError" in capsys.readouterr().err
    assert len(sink.pushes) == 1


def test_lines_above_the_queue_limit_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines in a pending export count for the limit, and lines above it are dropped."""
    sink, dropped = Sink(None), DroppedLines()
    logs = handler(sink.port, dropped)
    log_lines(logs, QUEUE + 50)
    assert dropped.by_reason == {"queue_full": 50}
    sink.release()
    logs.close()
    sink.close()
    assert dropped.by_reason == {"queue_full": 50}
    assert capsys.readouterr().err.count("\n") == 2


def test_a_collector_that_never_responds_does_not_delay_the_shutdown(capsys: pytest.CaptureFixture[str]) -> None:
    """close() returns after its timeout and reports the number of dropped lines."""
    sink, dropped = Sink(None), DroppedLines()
    logs = handler(sink.port, dropped)
    log_lines(logs, 7)
    logs.close(timeout_s=0.1)
    assert dropped.by_reason == {"shutdown": 7}
    assert "7 log lines dropped: the collector did not accept them before the process ended" in capsys.readouterr().err
    sink.close()


@pytest.mark.parametrize("status", [200, 400])
def test_a_push_that_ends_after_the_shutdown_changes_nothing(status: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Its lines are counted and reported already, as dropped, whether it succeeds or not."""
    sink, dropped, answer = Sink(), DroppedLines(), threading.Event()
    sink.respond = lambda _: status if answer.wait() else None
    logs = handler(sink.port, dropped)
    log_lines(logs, 7)
    logs.close(timeout_s=0.1)
    reported = capsys.readouterr().err
    answer.set()
    eventually(
        lambda: not [each for each in threading.enumerate() if each.name == "otlp-logs-close"], "end of the push"
    )
    sink.close()
    assert dropped.by_reason == {"shutdown": 7}
    assert (reported.count("\n"), capsys.readouterr().err) == (1, "")


def test_accepted_lines_are_not_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """Without losses, nothing is reported."""
    sink, dropped = Sink(200), DroppedLines()
    logs = handler(sink.port, dropped)
    log_lines(logs, 5)
    logs.close()
    sink.close()
    assert dropped.by_reason == {}
    assert capsys.readouterr().err == ""


def test_the_exporters_own_log_lines_are_not_exported() -> None:
    """Otherwise, each failure would log another line that is dropped."""
    sink, dropped = Sink(400), DroppedLines()
    logs = handler(sink.port, dropped)
    root = logging.getLogger()
    root.addHandler(logs)
    log_lines(logs, 3)
    logs.close()
    root.removeHandler(logs)
    sink.close()
    assert dropped.by_reason == {"export_failed": 3}


class Reporter:
    """A reporter with a clock that the test sets."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.now, self.dropped = 0.0, DroppedLines()
        self.reporter = DropReporter(self.dropped, lambda: self.now)
        self._capsys = capsys

    def lines(self) -> list[str]:
        """Return the texts that were written since the last call."""
        return [line.split('"')[1] for line in self._capsys.readouterr().err.splitlines()]


def test_an_outage_is_reported_at_its_start_and_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    """This holds for any duration; the numbers in the lines add up to the counter."""
    reporter = Reporter(capsys)
    for _ in range(100):
        reporter.reporter.unavailable("no Loki")
        reporter.reporter.record(2, "queue_full", "full")
        reporter.now += LOG_INTERVAL_S
    reporter.reporter.recovered()
    reporter.reporter.recovered()
    reporter.reporter.close()
    assert reporter.dropped.by_reason == {"queue_full": 200}
    assert reporter.lines() == [
        "log lines wait: no Loki",
        "2 log lines dropped: full",
        "log lines are accepted again, 198 more were dropped",
    ]


def test_frequent_short_failures_are_reported_twice_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    """Otherwise, a queue that is repeatedly full for a moment would be two lines each time."""
    reporter = Reporter(capsys)
    for _ in range(100):
        reporter.reporter.record(2, "queue_full", "full")
        reporter.reporter.recovered()
        reporter.now += LOG_INTERVAL_S / 50
    reporter.reporter.close()
    reported = [line for line in reporter.lines() if "dropped" in line]
    assert [int(line.split()[0]) for line in reported] == [2, 100, 98]
