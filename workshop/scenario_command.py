"""The command `scenario`: list, run, hint, answer, stop."""

import json
import random
from collections.abc import Callable
from pathlib import Path

from workshop import only_one, scenario
from workshop.durations import lease, seconds, written
from workshop.errors import WorkshopError
from workshop.gateway import Gateway
from workshop.runner import Runner, Say, Seen, end_on_signals
from workshop.stack import Stack
from workshop.switches import Switches

INTERRUPTED = 130


def list_scenarios(lock: Path) -> list[str]:
    """Give a line for each scenario, and which one runs."""
    lines = [f"{name:20} {scenario.read(name).title}" for name in scenario.names()]
    run = only_one.running(lock)
    if run:
        lines.append(f"\n{'one' if run.blind else run.name} runs")
    return lines


def run_scenario(
    switches: Switches,
    lock: Path,
    name: str | None,
    say: Say,
    *,
    gateway: Gateway,
    stack: Stack,
    blind: bool,
    start: str | None = None,
    lasts: str | None = None,
) -> int:
    """Run one to its end, by chance if no name is given and it is blind; give the exit status."""
    if name is None and not blind:
        raise WorkshopError(
            f"say which scenario, or --blind for one by chance; there are {', '.join(scenario.names())}"
        )
    chosen = scenario.read(name or random.choice(scenario.names()))  # noqa: S311 - dice, not secrets
    with only_one.only_one(lock, chosen.name, blind=blind):
        _hints(lock).unlink(missing_ok=True)  # each run begins with the first hint
        runner = Runner(chosen, switches, say, blind=blind, seen=_seen(chosen, gateway, stack))
        end_on_signals(runner)
        over = runner.run(
            chosen.start_s if start is None else seconds(start), chosen.lasts_s if lasts is None else lease(lasts)
        )
        return 0 if over else INTERRUPTED


def _seen(chosen: scenario.Scenario, gateway: Gateway, stack: Stack) -> Seen | None:
    """Give what tells of symptoms, and of alerts where there is a stack; nothing where neither it nor a gateway is."""
    if gateway.answers():
        return lambda: [it.tells for it in chosen.symptoms if _there(lambda: gateway.shows(it.gateway))]  # noqa: B023 - called at once
    if stack.answers():
        return lambda: _seen_in_stack(chosen, stack)
    return None


def _seen_in_stack(chosen: scenario.Scenario, stack: Stack) -> list[str]:
    fires = [f"the alert {name} fires" for name in chosen.alerts if _there(lambda: name in stack.firing())]  # noqa: B023 - called at once
    return [it.tells for it in chosen.symptoms if _there(lambda: stack.shows(it))] + fires  # noqa: B023 - as above


def _there(look: Callable[[], bool]) -> bool:
    try:
        return look()
    except WorkshopError:
        return False  # whoever is asked went away: the scenario goes on without it


def hint(lock: Path, name: str | None) -> list[str]:
    """Give the next hint of a scenario, or of the one that runs."""
    chosen = _meant(lock, name)
    given = _given(lock)
    number = min(given.get(chosen.name, 0), len(chosen.hints) - 1)
    _hints(lock).write_text(json.dumps({chosen.name: number + 1}), encoding="utf-8")
    last = "" if number + 1 < len(chosen.hints) else "\nThat was the last one; there is the answer."
    return [f"Hint {number + 1} of {len(chosen.hints)}: {chosen.hints[number]}{last}"]


def answer(lock: Path, name: str | None) -> list[str]:
    """Give the answer: what it was, where in the code, and the questions that show it."""
    chosen = _meant(lock, name)
    lines = [f"{chosen.title}", "", chosen.answer, "", "Where: " + ", ".join(chosen.where), "", "What shows it:"]
    for symptom in chosen.symptoms:
        lines.append(f"- {symptom.tells}")
        asked = (("PromQL", symptom.promql), ("LogQL", symptom.logql), ("TraceQL", symptom.traceql))
        lines += [f"    {language}: {query}" for language, query in asked if query]
        if (look := symptom.gateway).signal == "profile":
            lines.append(f"    Pyroscope: {look.of['service']}, CPU: {look.of['function']}, above {look.above:g} %")
    if chosen.alerts:
        lines += ["", "The alert that it fires, with a runbook in docs/runbooks: " + ", ".join(chosen.alerts)]
    faults = ", ".join(f"{fault.name} at {strength:g}" for fault, strength in chosen.faults.items())
    return [*lines, "", f"Faults: {faults}; it lasts {written(chosen.lasts_s)}."]


def stop_scenario(lock: Path) -> list[str]:
    """End the one that runs."""
    run = only_one.stop(lock)
    return ["the scenario is ended, the faults are as before" if run.blind else f"{run.name} is ended"]


def _meant(lock: Path, name: str | None) -> scenario.Scenario:
    run = only_one.running(lock)
    if name is None and run is None:
        raise WorkshopError("no scenario runs; say which one you mean")
    return scenario.read(name or (run.name if run else ""))


def _given(lock: Path) -> dict[str, int]:
    """How many hints were given of the scenario that was last asked about."""
    try:
        told = json.loads(_hints(lock).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {key: int(value) for key, value in told.items()} if isinstance(told, dict) else {}


def _hints(lock: Path) -> Path:
    """Where the number of hints that were given is kept."""
    return lock.with_suffix(".hints")
