"""The tables of the demo in a terminal: the addresses, and below them what arrives."""

from collections.abc import Mapping
from pathlib import Path

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from local.display.summary import Arrivals, Figures, Summary
from local.plan import Plan
from local.processes.supervisor import Progress
from tools.suite import HOPS, OCCASIONAL, SERVICE_NAMES, SIGNALS

UNITS = {"traces": "spans/s", "metrics": "points/s", "logs": "lines/s", "profiles": "profiles/s"}
NOTHING = "-"
# Each service sends metrics and profiles every ten seconds; after three missed intervals something has stopped.
STALE_S = 30.0


def addresses(plan: Plan, progress: Mapping[str, Progress], logs: Path) -> RenderableType:
    """Return the table of entries with their addresses and states."""
    table = _table()
    for _ in ("name", "address", "what it is"):
        table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for entry in plan.entries:
        table.add_row(Text(entry.name, "bold"), entry.address, Text(entry.note, "dim"), _state(progress[entry.name]))
    table.add_row(Text("logs", "bold"), f"{logs}/<name>.log", "", "")
    return _indented("", table)


def arrivals(seen: Arrivals, progress: Mapping[str, Progress]) -> RenderableType:
    """Return the rates of each service and each hop, the seconds since the last arrival, failures, and the time."""
    failed = [Text(each.failure, "red") for each in progress.values() if each.failure]
    footer = _footer(seen.summary, seen.running_s, seen.first_after_s)
    return _indented("", _services(seen.summary), "", _hops(seen.summary), "", *failed, footer)


def sending(plan: Plan, progress: Mapping[str, Progress], running_s: float) -> RenderableType:
    """Return where the signals go if not to the gateway, failures, and the time."""
    failed = [Text(each.failure, "red") for each in progress.values() if each.failure]
    minutes, seconds = divmod(int(running_s), 60)
    time = Text(f"{minutes}:{seconds:02} · Ctrl-C stops everything", "dim")
    return _indented("", Text(destination(plan)), "", *failed, time)


def destination(plan: Plan) -> str:
    """Return the sentence that says where the signals go if not to the gateway."""
    return f"sending traces, metrics, and logs to {plan.collector}; look there for what arrives"


def plain_line(summary: Summary, running_s: float) -> str:
    """Return all that in one line without colours, for a log."""
    rates = "  ".join(f"{rate(summary.rate(signal))} {unit}" for signal, unit in UNITS.items())
    cells = len(SERVICE_NAMES) * len(SIGNALS) - len(summary.missing_cells())
    hops = len(HOPS) - len(summary.missing_hops())
    return f"{running_s:5.0f} s  {rates}  signals {cells}/{len(SERVICE_NAMES) * len(SIGNALS)}  hops {hops}/{len(HOPS)}"


def rate(per_s: float) -> str:
    """Write a rate in few characters: 412, 3.1, 0."""
    return f"{per_s:.0f}" if per_s >= 9.95 or per_s == 0 else f"{per_s:.1f}"  # noqa: PLR2004 - would be written 10.0


def _services(summary: Summary) -> Table:
    table = _table()
    table.add_column("arriving at the gateway", no_wrap=True, min_width=24)
    for signal in SIGNALS:
        table.add_column(UNITS[signal], justify="right", no_wrap=True)
    table.add_column("last", justify="right", no_wrap=True, min_width=7)
    seen_now_and_then = [name for name in OCCASIONAL if any((name, signal) in summary.cells for signal in SIGNALS)]
    for service in (*SERVICE_NAMES, *seen_now_and_then):
        cells = [summary.cells.get((service, signal)) for signal in SIGNALS]
        table.add_row(Text(service, "bold"), *(_cell(cell) for cell in cells), _last([c for c in cells if c]))
    return table


def _hops(summary: Summary) -> Table:
    table = _table()
    table.add_column("hop", no_wrap=True, min_width=34)
    table.add_column("calls/s", justify="right", no_wrap=True, min_width=8)
    table.add_column("last", justify="right", no_wrap=True, min_width=7)
    for source, target in HOPS:
        figures = summary.hops.get((source, target))
        name = Text.assemble((_short(source), "bold"), (" → ", "dim"), (_short(target), "bold"))
        table.add_row(name, _cell(figures), _last([figures] if figures else []))
    return table


def _footer(summary: Summary, running_s: float, first_after_s: float | None) -> Text:
    missing = len(summary.missing_cells()) + len(summary.missing_hops())
    minutes, seconds = divmod(int(running_s), 60)
    parts = [f"{minutes}:{seconds:02}"]
    if first_after_s is not None:
        parts.append(f"first signals after {first_after_s:.0f} s")
    parts.append("complete" if not missing else f"{missing} not seen yet")
    return Text(f"{' · '.join(parts)} · Ctrl-C stops everything", "dim")


def _indented(*parts: RenderableType) -> Padding:
    return Padding(Group(*parts), (0, 0, 0, 1))


def _table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")


def _cell(figures: Figures | None) -> Text:
    if figures is None:
        return Text(NOTHING, "dim")
    return Text(rate(figures.rate_per_s), "yellow" if figures.age_s > STALE_S else "green")


def _last(figures: list[Figures]) -> Text:
    if not figures:
        return Text(NOTHING, "dim")
    return Text(f"{min(each.age_s for each in figures):.1f} s", "dim")


def _short(name: str) -> str:
    return name.removeprefix("mythical-")


def _state(progress: Progress) -> Text:
    if progress.failure:
        return Text("failed", "red")
    if progress.launched_at is None:
        return Text("waiting", "dim")
    if progress.ready_after_s is None:
        return Text("starting", "yellow")
    return Text(f"{progress.ready_after_s:.1f} s" if progress.launched_at else "ready", "green")
