"""What a service counts as rejected is what the real Loki did not store."""

import logging
import time
import uuid
from collections import Counter

import pytest

from common.telemetry.logs.loki import BatchLokiHandler
from tests.stack.backends import Backends, eventually

HOUR_S = 3600.0
BAD_STREAM = {f"label_{number}": "x" for number in range(20)}

Line = tuple[float, str, dict[str, str]]


def lines(bad: dict[int, Line]) -> list[Line]:
    """Return 60 lines of two streams, each with its age, padding, and labels; some are replaced by bad ones."""
    return [bad.get(number, (0.0, "", {"half": "ab"[number % 2]})) for number in range(60)]


TOO_OLD, TOO_FAR_BEHIND = (8 * 24 * HOUR_S, "", {"half": "a"}), (3 * HOUR_S, "", {"half": "b"})
TOO_LONG, TOO_MANY_LABELS = (0.0, "x" * 300_000, {"half": "a"}), (0.0, "", BAD_STREAM)


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {7: TOO_OLD},
        {7: TOO_LONG, 8: TOO_LONG},
        {7: TOO_MANY_LABELS, 9: TOO_MANY_LABELS},
        {57: TOO_FAR_BEHIND, 59: TOO_FAR_BEHIND},
        {7: TOO_OLD, 8: TOO_LONG, 9: TOO_MANY_LABELS, 59: TOO_FAR_BEHIND},
    ],
    ids=["none", "too old", "too long", "too many labels", "too far behind", "all of them"],
)
def test_lines_that_loki_rejects_are_counted_and_the_others_stored(stack: Backends, bad: dict[int, Line]) -> None:
    """One push has good and bad lines of several streams, and Loki's answer describes only some of them."""
    dropped: Counter[str] = Counter()
    run = f"rejections-{uuid.uuid4().hex[:8]}"
    handler = BatchLokiHandler(
        stack.url("LOKI_PORT", "/loki/api/v1/push"),
        {"run": run},
        lambda number, reason: dropped.update({reason: number}),
    )
    began = time.time()
    for number, (age_s, padding, labels) in enumerate(lines(bad)):
        record = logging.makeLogRecord({"msg": f"line {number}{padding}", "levelno": logging.INFO, "levelname": "INFO"})
        record.created = began + number / 1000 - age_s
        record.tags = labels
        handler.emit(record)
    handler.close(20)
    assert dict(dropped) == ({"rejected": len(bad)} if bad else {})
    stored = {f"line {number}" for number in range(60) if number not in bad}
    eventually(
        lambda: {line[5:-1] for _, line in stack.logql(f'{{run="{run}"}}', seconds=30 * 60, limit=100)} == stored,
        "the other lines",
        10,
    )
