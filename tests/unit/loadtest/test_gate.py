"""The gate reads a file of thresholds, decides, and writes a report as a table, JSON, and CSV."""

import json
from pathlib import Path

import pytest

from common.core.env import SettingsError
from loadtest.gate import judge, read_gate
from loadtest.report import Report, Row, table, write

FIGURES = {"p95_ms": 120.0, "error_share": 0.0, "injected_share": 0.05, "check_share": 1.0, "requests": 300.0}
ROW = Row("POST /<beast>", 300, 2, 15.0, 5.0, 120.0, 130.0, 131.5)
REPORT = Report(
    run={"run_id": "1121-093012-4f2a", "seed": "gate"},
    rows=(ROW,),
    checks={"POST status": (298, 2)},
    figures=FIGURES,
    failures={"POST /<beast>: expected status 201, got 409": 2},
)


def exceeded_limit(**figures: float) -> list[str]:
    """Return the figures that exceed the thresholds of the committed file."""
    return [line.figure for line in judge(read_gate(), {**FIGURES, **figures}) if not line.holds]


def test_a_good_run_passes_the_committed_gate() -> None:
    """A run that is exactly at a threshold passes too."""
    assert exceeded_limit() == []
    assert exceeded_limit(p95_ms=300) == []


@pytest.mark.parametrize(
    ("figure", "value"),
    [("p95_ms", 301), ("error_share", 0.011), ("injected_share", 0.2), ("check_share", 0.97), ("requests", 99)],
)
def test_each_threshold_can_be_exceeded(figure: str, value: float) -> None:
    """Only the figure that exceeds its threshold is reported."""
    assert exceeded_limit(**{figure: value}) == [figure]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[most]\np95 = 3\n", "has the unknown key p95; known are p95_ms"),
        ("[least]\nrequests = true\n", "is not a number"),
        ("[run]\nminutes = 3\n", "known are users, rate, time, shape, seed"),
        ("most = 3\n", "is not a table"),
        ("[most\n", "is not TOML"),
    ],
)
def test_an_invalid_file_is_rejected_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    """A misspelled threshold would have no effect."""
    file = tmp_path / "gate.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as rejection:
        read_gate(file)
    assert message in str(rejection.value)
    assert "\n" not in str(rejection.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """There is no stack trace."""
    with pytest.raises(SettingsError, match=r"nowhere\.toml: No such file"):
        read_gate(tmp_path / "nowhere.toml")


def test_the_table_shows_requests_checks_failures_and_exceeded_thresholds() -> None:
    """The columns are aligned."""
    text = table(REPORT, judge(read_gate(), {**FIGURES, "p95_ms": 999}))
    assert "POST /<beast>" in text
    assert "expected status 201, got 409" in text
    (line,) = [line for line in text.splitlines() if line.startswith("p95_ms")]
    assert line.split() == ["p95_ms", "999", "at", "most", "300", "EXCEEDED"]
    first, second = text.splitlines()[:2]
    assert len(first) == len(second)


def test_json_and_csv_contain_what_the_table_shows(tmp_path: Path) -> None:
    """JSON has the verdict and each figure, and CSV has a row for each kind of request."""
    whole, rows = write(REPORT, judge(read_gate(), FIGURES), tmp_path / "made")
    data = json.loads(whole.read_text(encoding="utf-8"))
    assert data["run"]["seed"] == "gate"
    assert {line["figure"]: line["holds"] for line in data["gate"]} == dict.fromkeys(FIGURES, True)
    head, row = rows.read_text(encoding="utf-8").splitlines()
    assert dict(zip(head.split(","), row.split(","), strict=True))["p95_ms"] == "120.0"
