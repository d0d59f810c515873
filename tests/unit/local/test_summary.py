"""The gateway's summary shows what arrived and what is missing in 80 columns."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from local.display.display import PlainDisplay, TerminalDisplay
from local.display.summary import Arrivals, Summary, parse
from local.display.tables import addresses, arrivals, plain_line, rate
from local.plan import Entry, Plan
from local.processes.supervisor import Progress
from tools.suite import HOPS, SIGNALS
from tools.suite import SERVICE_NAMES as SERVICES


def complete() -> dict[str, Any]:
    """Return the response of a gateway that received everything."""
    seen = {"count": 5, "rate_per_s": 12345.6, "age_s": 120.5}
    cells = [{"service": service, "signal": signal, **seen} for service in SERVICES for signal in SIGNALS]
    hops = [{"from": source, "to": target, "kind": "http", **seen} for source, target in HOPS]
    return {"cells": cells, "hops": hops, "uptime_s": 1.0}


def test_nothing_is_missing_of_a_complete_summary() -> None:
    """The suite has twelve cells and four hops."""
    summary = parse(complete())
    assert (len(summary.cells), len(summary.hops)) == (12, 4)
    assert not summary.missing_cells()
    assert not summary.missing_hops()


def test_a_cell_without_data_is_missing() -> None:
    """A missing row and a row with a count of 0 are the same."""
    response = complete()
    del response["cells"][0]
    response["cells"][0]["count"] = 0
    response["hops"].pop()
    summary = parse(response)
    assert summary.missing_cells() == [("mythical-requester", "traces"), ("mythical-requester", "metrics")]
    assert summary.missing_hops() == [("rabbitmq", "mythical-recorder")]


def test_a_signal_that_stops_arriving_is_reported() -> None:
    """Otherwise, a signal that stopped after its first item would count as seen."""
    response = complete()
    for cell in response["cells"]:
        cell["age_s"] = 20.0
    response["cells"][0]["age_s"] = 1.0
    stopped = parse(response).stopped_cells()
    assert ("mythical-requester", "traces") not in stopped
    assert ("mythical-server", "logs") in stopped
    assert ("mythical-server", "profiles") not in stopped  # these arrive every ten seconds


def test_everything_is_missing_in_an_empty_summary() -> None:
    """This is the case before the first signal, or while the gateway does not respond."""
    assert len(Summary().missing_cells()) == 12
    assert len(Summary().missing_hops()) == 4


@pytest.mark.parametrize(("per_s", "text"), [(0, "0"), (0.04, "0.0"), (3.14, "3.1"), (9.97, "10"), (412.4, "412")])
def test_rates_are_short(per_s: float, text: str) -> None:
    """A rate has one decimal place if it is small."""
    assert rate(per_s) == text


@pytest.mark.parametrize(("running_s", "shown"), [(0.2, "0:00"), (59.7, "0:59"), (119.99, "1:59"), (3600, "60:00")])
def test_the_time_is_in_minutes_and_seconds(running_s: float, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds are below 60, so 0:60 is invalid."""
    monkeypatch.setattr(Arrivals, "running_s", running_s)
    console = Console(width=80)
    with console.capture() as captured:
        console.print(arrivals(Arrivals(""), {}))
    assert captured.get().splitlines()[-1].split(" · ")[0].strip() == shown


@pytest.mark.parametrize("response", [complete(), {}])
def test_the_view_fits_eighty_columns(response: dict[str, Any]) -> None:
    """Two tables and a footer are thirteen lines, each row on one line."""
    seen = Arrivals("")
    seen.summary, seen.first_after_s = parse(response), 9.5
    console = Console(width=80, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(arrivals(seen, {}))
    lines = captured.get().splitlines()
    assert len(lines) == 13
    assert max(len(line) for line in lines) <= 80
    assert "…" not in captured.get()


def test_the_addresses_fit_eighty_columns() -> None:
    """With ten lines, one of them blank, the arrivals below are visible on a terminal of 24 lines."""
    names = ("gateway", "aspire", "requester", "server", "recorder", "postgres", "rabbitmq")
    entries = tuple(Entry(name, "http://127.0.0.1:40000/unicorn", "signals, map, flame graphs") for name in names)
    console = Console(width=80, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(addresses(Plan(entries, ""), {name: Progress(1.0, 123.4) for name in names}, Path("var/log")))
    lines = captured.get().splitlines()
    assert len(lines) == 10
    assert max(len(line) for line in lines) <= 80
    assert "…" not in captured.get()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_part_that_fails_while_the_signals_arrive_is_reported(*, terminal: bool) -> None:
    """A log has one message; a terminal keeps it, because the addresses above still show the part as ready."""
    plan = Plan((Entry("locust", "http://127.0.0.1:8089", "load to watch and change"),), "")
    progress = {"locust": Progress(1.0, 2.0)}
    console = Console(width=80, force_terminal=terminal, color_system=None)
    kind = (
        TerminalDisplay(console, plan, progress, Path("var/log")) if terminal else PlainDisplay(console, plan, progress)
    )
    with console.capture() as captured:
        with kind.starting() as refresh:
            refresh()
        progress["locust"].failure = "locust ended after 9 s (signal 9); its log: var/log/locust.log"
        with kind.arriving(Arrivals("")) as refresh:
            refresh()
            refresh()
    output = captured.get()
    assert "locust ended after 9 s (signal 9); its log: var/log/locust.log" in output
    assert terminal or output.count("ended after") == 1


def test_the_plain_line_fits_a_log() -> None:
    """The log of a run with a time limit stays readable."""
    assert len(plain_line(parse(complete()), 40)) <= 110
