"""What the soak takes for flat, and what for growth."""

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
    """Forty samples of a run at five milliseconds a request; the last ten with what `grown` says."""
    steady = [replace(START, requests=100 * n, request_ms=500 * n) for n in range(40)]
    return [*steady[:30], *(replace(each, **grown) for each in steady[30:])]  # type: ignore[arg-type]


def test_a_run_in_which_nothing_changes_is_flat() -> None:
    """No complaint, and the table has its figures."""
    lines, grown = judge(samples())
    assert grown == []
    assert any("mean time of a request" in line and "5.0" in line for line in lines)


@pytest.mark.parametrize(
    ("what", "grown"),
    [
        ("server: memory", {"memory_mb": {"server": 90.0}}),
        ("server: open files", {"files": {"server": 50}}),
        ("rows of the largest table", {"largest_table": 20_000.0}),
    ],
)
def test_what_grows_is_named(what: str, grown: dict[str, object]) -> None:
    """More memory, more open files, a table beyond its bound: one complaint each."""
    (complaint,) = judge(samples(**grown))[1]
    assert complaint.startswith(what)


def test_a_start_that_needs_more_is_not_growth() -> None:
    """Caches fill in the beginning, and what comes before the warm-up is over is not compared."""
    cold = [replace(each, memory_mb={"server": 40.0}) if n < 8 else each for n, each in enumerate(samples())]
    assert judge(cold)[1] == []


def test_the_table_shows_whether_the_gateway_s_window_was_full() -> None:
    """Memory that rises while it fills is no leak, so whoever reads the table has to see that it was full before."""
    filling = [replace(each, window_full=min(1.0, n / 20)) for n, each in enumerate(samples())]
    assert any(line.split() == ["gateway:", "window", "full,", "%", "50", "100"] for line in judge(filling)[0])


def test_requests_that_become_slower_are_growth() -> None:
    """The mean of the last third is held against that of the first, not against the whole run."""
    slower = [replace(START, requests=100 * n, request_ms=500.0 * n + max(0, n - 30) * 2000.0) for n in range(40)]
    assert any(each.startswith("mean time of a request") for each in judge(slower)[1])


@pytest.mark.parametrize("minutes", ["0", "inf", "nan", "long"])
def test_a_length_that_is_none_is_refused_in_a_line(
    minutes: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A soak that never ends is one as well."""
    monkeypatch.setenv("SOAK_MINUTES", minutes)
    assert main() == 2
    assert capsys.readouterr().err == "SOAK_MINUTES must be a number of minutes, 1 to 10080\n"
