"""The gate: one file of thresholds, a verdict, and a report as table, JSON and CSV."""

import json
from pathlib import Path

import pytest

from common.core.env import SettingsError
from loadtest.gate import judge, read_gate
from loadtest.report import Report, Row, table, write

FIGURES = {"p95_ms": 120.0, "error_share": 0.0, "planted_share": 0.05, "check_share": 1.0, "requests": 300.0}
ROW = Row("POST /<beast>", 300, 2, 15.0, 5.0, 120.0, 130.0, 131.5)
REPORT = Report(
    run={"run_id": "1121-093012-4f2a", "seed": "gate"},
    rows=(ROW,),
    checks={"POST status": (298, 2)},
    figures=FIGURES,
    failures={"POST /<beast>: expected status 201, got 409": 2},
)


def exceeded_limit(**figures: float) -> list[str]:
    """The figures that cross the lines of the file that is kept."""
    return [line.figure for line in judge(read_gate(), {**FIGURES, **figures}) if not line.holds]


def test_a_good_run_passes_the_gate_that_is_kept() -> None:
    """And so does one that is exactly on a line."""
    assert exceeded_limit() == []
    assert exceeded_limit(p95_ms=300) == []


@pytest.mark.parametrize(
    ("figure", "value"),
    [("p95_ms", 301), ("error_share", 0.011), ("planted_share", 0.2), ("check_share", 0.97), ("requests", 99)],
)
def test_each_line_can_be_crossed(figure: str, value: float) -> None:
    """By its own figure, and no other is blamed."""
    assert exceeded_limit(**{figure: value}) == [figure]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[most]\np95 = 3\n", "has the unknown key p95; known are p95_ms"),
        ("[least]\nrequests = true\n", "is not a number"),
        ("[run]\nminutes = 3\n", "known are users, rate, time, shape, seed"),
        ("most = 3\n", "is not a table"),
        ("[most\n", "is not TOML"),
    ],
)
def test_a_file_with_a_slip_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    """A threshold that is misspelt would let everything pass."""
    file = tmp_path / "gate.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as refusal:
        read_gate(file)
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """Not a stack trace."""
    with pytest.raises(SettingsError, match=r"nowhere\.toml: No such file"):
        read_gate(tmp_path / "nowhere.toml")


def test_the_table_shows_requests_checks_failures_and_what_was_crossed() -> None:
    """Columns stand under each other."""
    text = table(REPORT, judge(read_gate(), {**FIGURES, "p95_ms": 999}))
    assert "POST /<beast>" in text
    assert "expected status 201, got 409" in text
    (line,) = [line for line in text.splitlines() if line.startswith("p95_ms")]
    assert line.split() == ["p95_ms", "999", "at", "most", "300", "EXCEEDED"]
    first, second = text.splitlines()[:2]
    assert len(first) == len(second)


def test_json_and_csv_hold_what_the_table_shows(tmp_path: Path) -> None:
    """For programs: the verdict with each figure, and a row for each kind of request."""
    whole, rows = write(REPORT, judge(read_gate(), FIGURES), tmp_path / "made")
    data = json.loads(whole.read_text(encoding="utf-8"))
    assert data["run"]["seed"] == "gate"
    assert {line["figure"]: line["holds"] for line in data["gate"]} == dict.fromkeys(FIGURES, True)
    head, row = rows.read_text(encoding="utf-8").splitlines()
    assert dict(zip(head.split(","), row.split(","), strict=True))["p95_ms"] == "120.0"
