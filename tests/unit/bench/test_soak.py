"""The soak test distinguishes growth from a flat course."""

from dataclasses import replace

import pytest

from bench.soak import Sample, judge, main

START = Sample(
    memory_mb={"server": 80.0},
    files={"server": 40},
    largest_table=500,
    database_mb=1.0,
    waiting=10,
    requests=0,
    request_ms=0,
    window_full=1.0,
)


def samples(**grown: object) -> list[Sample]:
    """Return 40 samples at five milliseconds per request; the last ten have the values of `grown`."""
    steady = [replace(START, requests=100 * n, request_ms=500 * n) for n in range(40)]
    return [*steady[:30], *(replace(each, **grown) for each in steady[30:])]  # type: ignore[arg-type]


def test_a_run_without_changes_is_flat() -> None:
    """There is no complaint, and the table has the numbers."""
    lines, grown = judge(samples())
    assert grown == []
    assert any("mean time of a request" in line and "5.0" in line for line in lines)


@pytest.mark.parametrize(
    ("quantity", "grown"),
    [
        ("server: memory", {"memory_mb": {"server": 90.0}}),
        ("server: open files", {"files": {"server": 50}}),
        ("rows of the largest table", {"largest_table": 20_000.0}),
    ],
)
def test_a_growing_quantity_is_named(quantity: str, grown: dict[str, object]) -> None:
    """More memory, more open files, and a table above its bound each result in one complaint."""
    (complaint,) = judge(samples(**grown))[1]
    assert complaint.startswith(quantity)


def test_growth_during_the_warm_up_is_ignored() -> None:
    """Caches fill in the beginning; samples before the end of the warm-up are not compared."""
    cold = [replace(each, memory_mb={"server": 40.0}) if n < 8 else each for n, each in enumerate(samples())]
    assert judge(cold)[1] == []


def test_the_table_shows_when_the_window_of_the_gateway_was_full() -> None:
    """Memory that grows while the window fills is not a leak, so the table must show that it was full before."""
    filling = [replace(each, window_full=min(1.0, n / 20)) for n, each in enumerate(samples())]
    assert any(line.split() == ["gateway:", "window", "full,", "%", "50", "100"] for line in judge(filling)[0])


def test_slower_requests_are_growth() -> None:
    """The mean of the last third is compared with that of the first, not with that of the whole run."""
    slower = [replace(START, requests=100 * n, request_ms=500.0 * n + max(0, n - 30) * 2000.0) for n in range(40)]
    assert any(each.startswith("mean time of a request") for each in judge(slower)[1])


@pytest.mark.parametrize("minutes", ["0", "inf", "nan", "long"])
def test_an_invalid_duration_is_rejected_with_one_line(
    minutes: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An infinite duration is invalid too."""
    monkeypatch.setenv("SOAK_MINUTES", minutes)
    assert main() == 2
    assert capsys.readouterr().err == "SOAK_MINUTES must be a number of minutes, 1 to 10080\n"
