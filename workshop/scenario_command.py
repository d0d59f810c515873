"""The command `scenario`: list, run, hint, answer, stop, catalogue. Each function raises WorkshopError."""

import html
import json
import random
import re
from collections.abc import Callable
from pathlib import Path

from workshop import WorkshopError, run_lock, scenario
from workshop.fault_client import FaultClient, format_duration, parse_duration, parse_lease
from workshop.gateway import Gateway
from workshop.runner import Print, Runner, VisibleSigns, stop_on_signals
from workshop.stack import Stack

INTERRUPTED = 130
# Code in a text, which is in backticks.
CODE = re.compile(r"(`[^`]*`)")
CATALOGUE_INTRODUCTION = """\
<!-- Generated: python -m workshop scenario catalogue > docs/scenarios.md -->
# Scenario catalogue

For instructors. A scenario injects one or more [faults](reference/settings.md#injected-faults) for a limited time. It
has a problem statement, hints, and an answer. Read the problem statement to the learners, then run the scenario without
showing its name:

```sh
python -m workshop scenario run --blind slow-lists
```

In another terminal, `python -m workshop scenario hint` prints the next hint, `answer` the solution, and `stop` ends the
run. The run reports which symptoms are `seen`; start it a minute before the learners look. Without a name, it picks a
scenario at random. *Signals* are those in which the symptoms appear. The *alert* fires with Docker; each has
[a runbook](slos.md#alerts).
"""


def list_scenarios(lock: Path) -> list[str]:
    """Return a line for each scenario, and which one is running."""
    lines = [f"{name:20} {scenario.read(name).title}" for name in scenario.names()]
    run = run_lock.running(lock)
    if run:
        lines.append(f"\n{'a scenario' if run.blind else run.name} is running")
    return lines


def run_scenario(
    client: FaultClient,
    lock: Path,
    name: str | None,
    output: Print,
    *,
    gateway: Gateway,
    stack: Stack,
    blind: bool,
    start: str | None = None,
    lasts: str | None = None,
) -> int:
    """Run a scenario to its end and return the exit status; a blind run without a name picks one at random."""
    if name is None and not blind:
        raise WorkshopError(
            f"name a scenario, or use --blind for a random one; there are {', '.join(scenario.names())}"
        )
    chosen = scenario.read(name or random.choice(scenario.names()))  # noqa: S311 - not a secret
    with run_lock.run_lock(lock, chosen.name, blind=blind):
        _hints(lock).unlink(missing_ok=True)  # each run starts with the first hint
        runner = Runner(chosen, client, output, blind=blind, visible_signs=_visible_signs(chosen, gateway, stack))
        stop_on_signals(runner)
        finished = runner.run(
            chosen.start_s if start is None else parse_duration(start),
            chosen.lasts_s if lasts is None else parse_lease(lasts),
        )
        return 0 if finished else INTERRUPTED


def _visible_signs(chosen: scenario.Scenario, gateway: Gateway, stack: Stack) -> VisibleSigns | None:
    """Return the check for visible symptoms, with alerts where there is a stack; None without gateway and stack."""
    if gateway.answers():
        return lambda: [it.sentence for it in chosen.symptoms if _is_visible(lambda: gateway.shows(it.gateway))]  # noqa: B023 - called at once
    if stack.answers():
        return lambda: _signs_in_stack(chosen, stack)
    return None


def _signs_in_stack(chosen: scenario.Scenario, stack: Stack) -> list[str]:
    fires = [f"the alert {name} fires" for name in chosen.alerts if _is_visible(lambda: name in stack.firing())]  # noqa: B023 - called at once
    return [it.sentence for it in chosen.symptoms if _is_visible(lambda: stack.shows(it))] + fires  # noqa: B023 - as above


def _is_visible(check: Callable[[], bool]) -> bool:
    try:
        return check()
    except WorkshopError:
        return False  # the backend became unavailable; the scenario continues without it


def hint(lock: Path, name: str | None) -> list[str]:
    """Return the next hint of a scenario, by default of the running one."""
    chosen = _chosen(lock, name)
    shown = _shown_hints(lock)
    number = min(shown.get(chosen.name, 0), len(chosen.hints) - 1)
    _hints(lock).write_text(json.dumps({chosen.name: number + 1}), encoding="utf-8")
    last = "" if number + 1 < len(chosen.hints) else "\nThis was the last hint; the answer is next."
    return [f"Hint {number + 1} of {len(chosen.hints)}: {chosen.hints[number]}{last}"]


def answer(lock: Path, name: str | None) -> list[str]:
    """Return the answer: the cause, its place in the code, and the queries that show it."""
    chosen = _chosen(lock, name)
    lines = [f"{chosen.title}", "", chosen.answer, "", "Where: " + ", ".join(chosen.where), "", "Queries that show it:"]
    for symptom in chosen.symptoms:
        lines.append(f"- {symptom.sentence}")
        lines += [f"    {language}: {query}" for language, query in _queries(symptom)]
        if (profile := symptom.gateway).signal == "profile":
            lines.append(
                f"    Pyroscope: {profile.of['service']}, CPU: {profile.of['function']}, above {profile.above:g} %"
            )
    if chosen.alerts:
        lines += ["", "Alerts that it fires, with runbooks in docs/runbooks: " + ", ".join(chosen.alerts)]
    faults = ", ".join(f"{fault.name} at {strength:g}" for fault, strength in chosen.faults.items())
    return [*lines, "", f"Faults: {faults}; it lasts {format_duration(chosen.lasts_s)}."]


def _queries(symptom: scenario.Symptom) -> list[tuple[str, str]]:
    """Return the queries to a stack that show a symptom, each after its language."""
    queries = (("PromQL", symptom.promql), ("LogQL", symptom.logql), ("TraceQL", symptom.traceql))
    return [(language, query) for language, query in queries if query]


def catalogue() -> list[str]:
    """Return the Markdown lines of docs/scenarios.md: a table, and each scenario with its hints and answer folded."""
    scenarios = [scenario.read(name) for name in scenario.names()]
    rows = ["| scenario | title | signals | alert | lasts |", "|---|---|---|---|---|"]
    for each in scenarios:
        alerts = ", ".join(f"`{alert}`" for alert in each.alerts)
        lasts, signals = format_duration(each.lasts_s), ", ".join(_signals(each))
        rows.append(f"| [`{each.name}`](#{each.name}) | {each.title} | {signals} | {alerts} | {lasts} |")
    return [CATALOGUE_INTRODUCTION, *rows, *(line for each in scenarios for line in _catalogue_entry(each))]


def _signals(of: scenario.Scenario) -> list[str]:
    """Return the signals that show the symptoms, in the local gateway or in a stack."""
    in_gateway = {"spans": "traces", "lines": "logs", "metric": "metrics", "profile": "profiles"}
    in_stack = {"PromQL": "metrics", "LogQL": "logs", "TraceQL": "traces"}
    found = {in_gateway[symptom.gateway.signal] for symptom in of.symptoms}
    found |= {in_stack[language] for symptom in of.symptoms for language, _ in _queries(symptom)}
    return [signal for signal in ("traces", "metrics", "logs", "profiles") if signal in found]


def _catalogue_entry(of: scenario.Scenario) -> list[str]:
    hints = [f"{number}. {_markdown(hint)}" for number, hint in enumerate(of.hints, start=1)]
    queries = []
    for symptom in of.symptoms:
        queries.append(f"- {_markdown(symptom.sentence)}")
        queries += [f"  - {language}: `{query}`" for language, query in _queries(symptom)]
    faults = ", ".join(f"`{fault.name}` at {strength:g}" for fault, strength in of.faults.items())
    code = ", ".join(f"[`{path}`](../{path})" for path in of.where)
    return [
        *("", f"## {of.name}", "", f"> {_markdown(of.complaint)}", ""),
        *("<details><summary>Hints</summary>", "", *hints, "", "</details>", ""),
        *("<details><summary>Answer</summary>", "", _markdown(of.answer), ""),
        *(f"Faults: {faults}. Code: {code}.", "", *queries, "", "</details>"),
    ]


def _markdown(text: str) -> str:
    """Return a text of a scenario as Markdown, in which nothing within code is escaped."""
    return "".join(part if part.startswith("`") else html.escape(part, quote=False) for part in CODE.split(text))


def stop_scenario(lock: Path) -> list[str]:
    """Stop the running scenario."""
    run = run_lock.stop(lock)
    return [f"{'the scenario' if run.blind else run.name} is stopped, faults restored"]


def _chosen(lock: Path, name: str | None) -> scenario.Scenario:
    run = run_lock.running(lock)
    if name is None and run is None:
        raise WorkshopError("no scenario is running; name one")
    return scenario.read(name or (run.name if run else ""))


def _shown_hints(lock: Path) -> dict[str, int]:
    """Return how many hints were shown of the scenario whose hints were shown last."""
    try:
        counts = json.loads(_hints(lock).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {key: int(value) for key, value in counts.items()} if isinstance(counts, dict) else {}


def _hints(lock: Path) -> Path:
    """Return the file with the number of hints shown."""
    return lock.with_suffix(".hints")
