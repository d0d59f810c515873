"""Log lines over OTLP that the collector does not take: each is counted, and a line tells of them."""

import logging
from collections import Counter
from collections.abc import Callable

import pytest
from opentelemetry.sdk.resources import Resource

from common.telemetry.logs.losses import TELL_EVERY_S, DropReporter
from common.telemetry.logs.otlp import OtlpHandler
from common.telemetry.otlp import Collector
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
    assert first.startswith(f'level=warn msg="{BATCH} log lines lost: ')
    assert last.startswith('level=warn msg="88 log lines lost: ')


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
    assert "7 log lines lost: the collector did not take them before the end" in capsys.readouterr().err
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


def test_losses_are_told_at_most_every_half_minute(capsys: pytest.CaptureFixture[str]) -> None:
    """The first at once, then one line for all that came since; the count has each."""
    now, told = [0.0], Told()
    losses = DropReporter(told, lambda: now[0])
    for _ in range(100):
        losses.add(2, "queue_full", "why")
        now[0] += TELL_EVERY_S / 50
    losses.close()
    assert told.lost == {"queue_full": 200}
    lines = capsys.readouterr().err.splitlines()
    assert [int(line.split('"')[1].split()[0]) for line in lines] == [2, 100, 98]
