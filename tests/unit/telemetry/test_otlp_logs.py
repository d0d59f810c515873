"""Log lines over OTLP that the collector does not take: each is counted, and a line tells of them."""

import logging
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


class Told:
    """Counts the lines that were given up, by reason."""

    def __init__(self) -> None:
        self.lost: Counter[str] = Counter()

    def __call__(self, lines: int, reason: str) -> None:
        """Take note."""
        self.lost[reason] += lines


def handler(port: int, dropped: Callable[[int, str], None], protocol: str = "http/protobuf") -> OtlpHandler:
    """A handler that sends to a port of this machine."""
    return OtlpHandler(Resource({"service.name": "test"}), Collector(LOOPBACK, port, protocol), dropped, QUEUE)


def say(to: logging.Handler, lines: int) -> None:
    """Have that many lines handled."""
    for number in range(lines):
        to.handle(logging.LogRecord("services.x", logging.INFO, "", 0, "line %s", (number,), None))


def test_what_the_collector_refuses_is_counted_and_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Two batches, one line on standard error with the reason; the rest is told at the end."""
    sink, told = Sink(400), Told()
    logs = handler(sink.port, told)
    say(logs, BATCH)
    eventually(lambda: told.lost["export_failed"] == BATCH, "loss")
    say(logs, 88)
    logs.close()
    sink.close()
    assert told.lost == {"export_failed": 600}
    first, last = capsys.readouterr().err.splitlines()
    assert first.startswith(f'level=warn msg="{BATCH} log lines dropped: ')
    assert last.startswith('level=warn msg="88 log lines dropped: ')


def test_what_finds_the_queue_full_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines that are on their way to a collector that does not answer wait as well: what is beyond is dropped."""
    sink, told = Sink(None), Told()
    logs = handler(sink.port, told)
    say(logs, QUEUE + 50)
    assert told.lost == {"queue_full": 50}
    sink.let_go()
    logs.close()
    sink.close()
    assert told.lost == {"queue_full": 50}
    assert capsys.readouterr().err.count("\n") == 2


def test_a_collector_that_never_answers_does_not_hold_up_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    """close() gives up after its time and says how many lines are lost."""
    sink, told = Sink(None), Told()
    logs = handler(sink.port, told)
    say(logs, 7)
    logs.close(timeout_s=0.1)
    assert told.lost == {"shutdown": 7}
    assert "7 log lines dropped: the collector did not accept them before the process ended" in capsys.readouterr().err
    sink.close()


def test_what_is_taken_is_not_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """No loss, no word."""
    sink, told = Sink(200), Told()
    logs = handler(sink.port, told)
    say(logs, 5)
    logs.close()
    sink.close()
    assert told.lost == {}
    assert capsys.readouterr().err == ""


def test_what_the_exporter_logs_of_its_own_failure_is_not_sent_and_lost_in_turn() -> None:
    """Sent to the same collector, it would be another loss, with another line to be lost, and so on."""
    sink, told = Sink(400), Told()
    logs = handler(sink.port, told)
    root = logging.getLogger()
    root.addHandler(logs)
    say(logs, 3)
    logs.close()
    root.removeHandler(logs)
    sink.close()
    assert told.lost == {"export_failed": 3}


class Reporter:
    """A reporter with a clock that the test sets."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.now, self.told = 0.0, Told()
        self.drops = DropReporter(self.told, lambda: self.now)
        self._capsys = capsys

    def lines(self) -> list[str]:
        """The texts that were written since the last call."""
        return [line.split('"')[1] for line in self._capsys.readouterr().err.splitlines()]


def test_an_outage_is_reported_when_it_begins_and_when_it_is_over(capsys: pytest.CaptureFixture[str]) -> None:
    """However long it lasts; the counter has each line, and so have the lines together."""
    reporter = Reporter(capsys)
    for _ in range(100):
        reporter.drops.unavailable("no Loki")
        reporter.drops.record(2, "queue_full", "full")
        reporter.now += LOG_INTERVAL_S
    reporter.drops.recovered()
    reporter.drops.recovered()
    reporter.drops.close()
    assert reporter.told.lost == {"queue_full": 200}
    assert reporter.lines() == [
        "log lines wait: no Loki",
        "2 log lines dropped: full",
        "log lines are accepted again, 198 more were dropped",
    ]


def test_a_delivery_that_fails_now_and_then_is_reported_twice_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    """Else a queue that is full for a moment, again and again, would be two lines each time."""
    reporter = Reporter(capsys)
    for _ in range(100):
        reporter.drops.record(2, "queue_full", "full")
        reporter.drops.recovered()
        reporter.now += LOG_INTERVAL_S / 50
    reporter.drops.close()
    dropped = [line for line in reporter.lines() if "dropped" in line]
    assert [int(line.split()[0]) for line in dropped] == [2, 100, 98]
