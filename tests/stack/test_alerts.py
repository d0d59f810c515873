"""The real Mimir loads the rules, and each alert fires while its trouble lasts and clears when it is over."""

import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mimir.source.rules import groups
from mimir.source.scales import SCALES, WORKSHOP
from tests.stack.mimir_running import (
    FOLDER,
    TOOL,
    Hook,
    Json,
    Mimir,
    Series,
    hook,
    needs_mimir,
    needs_mimirtool,
    now,
    running,
    series,
)

ALERTS = sorted(
    {(rule.alert, rule.labels["severity"]) for group in groups(WORKSHOP) for rule in group.rules if rule.alert}
)
# The longest wait is for telemetry that is missing: a window of 60 s, and 90 s on top.
FIRES_S, CLEARS_S = 240.0, 180.0
STEP_S, HISTORY_S = 5, 17 * 60

SERVICES = ("mythical-requester", "mythical-server", "mythical-recorder", "mythical-frontend")
REQUESTS = "http_client_request_duration_seconds"
AGES = "mythical_message_age_seconds"


@dataclass
class World:
    """What a suite would tell: counters that grow by `pace` events a second, all good or all in trouble."""

    counters: dict[Series, float] = field(default_factory=dict)

    def step(self, seconds: float, pace: float, *, trouble: bool) -> dict[Series, float]:
        """Let seconds pass, and return what the series are then."""
        asked = {"service": "mythical-requester", "server_address": "mythical-server"}
        failed = pace * 0.5 if trouble else 0.0
        self._grow(series(f"{REQUESTS}_count", **asked, error_type="500"), failed * seconds)
        # Of those that do not fail, half are slow.
        answered = pace - failed
        self._histogram(REQUESTS, asked, "0.25", answered * seconds, answered * seconds * 0.5 if trouble else 0.0)
        recorder = {"service": "mythical-recorder"}
        self._histogram(AGES, recorder, "60", pace * seconds, pace * seconds * 0.5 if trouble else 0.0)
        # Nothing is recorded in the trouble; that old messages are recorded as well is one trouble too many for a real
        # suite, but not for rules that know nothing of each other.
        self._grow(series("mythical_messages_recorded_total", **recorder), 0.0 if trouble else pace * seconds)
        dead = series("mythical_queue_messages", queue="messages.dead")
        self._grow(dead, pace * seconds if trouble else 0.0)
        for name in (
            "otelcol_exporter_send_failed_spans_total",
            "otelcol_exporter_enqueue_failed_spans_total",
            "prometheus_remote_storage_samples_failed_total",
            "loki_write_dropped_entries_total",
            "pyroscope_write_dropped_profiles_total",
        ):
            self._grow(series(name, service="alloy"), pace * seconds if trouble else 0.0)
        gauges = {series("mythical_queue_messages", queue="messages"): 40.0}
        heard = SERVICES[1:] if trouble else SERVICES
        for service in heard:
            self._grow(series("process_cpu_time_seconds_total", service=service), seconds)
        silent = {series("process_cpu_time_seconds_total", service=service) for service in set(SERVICES) - set(heard)}
        return gauges | {key: value for key, value in self.counters.items() if key not in silent}

    def _grow(self, which: Series, by: float) -> None:
        self.counters[which] = self.counters.get(which, 0.0) + by

    def _histogram(self, name: str, labels: dict[str, str], le: str, events: float, beyond: float) -> None:
        self._grow(series(f"{name}_count", **labels), events)
        self._grow(series(f"{name}_bucket", **labels, le=le), events - beyond)


@dataclass
class Story:
    """What was seen: rules after a quiet history, then trouble, then its end."""

    rules: list[Json]
    quiet: set[tuple[str, str]]
    fired: set[tuple[str, str]]
    left: set[tuple[str, str]]
    annotations: list[Json]
    budgets: dict[str, float]
    told: set[tuple[str, str]]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Live through a trouble of everything at once, at the pace of the workshop."""
    folder = tmp_path_factory.mktemp("mimir")
    with hook() as heard:
        configuration = (FOLDER / "alertmanager/webhook.yaml").read_text(encoding="utf-8")
        (folder / "own.yaml").write_text(
            configuration.replace("host.docker.internal:5001", f"127.0.0.1:{heard.port}"), encoding="utf-8"
        )
        with running(folder, MIMIR_ALERTMANAGER=str(folder), ALERTS_TO="own") as mimir:
            yield lived(mimir, heard)


def lived(mimir: Mimir, heard: Hook) -> Story:
    """Tell the story from its beginning to its end."""
    world = World()
    start = now()
    for at in range(int(start) - HISTORY_S, int(start), STEP_S):
        mimir.push(world.step(STEP_S, 10, trouble=False), at)
    live = Live(mimir, world, start)
    # Evaluated at least once with all of the history.
    live.until(lambda: evaluated_since(mimir, start + 15), FIRES_S, 10, trouble=False)
    rules, quiet = mimir.rules(), mimir.firing()
    fired: set[tuple[str, str]] = set()

    def all_fired() -> bool:
        fired.update(mimir.firing())
        return fired >= set(ALERTS)

    # Many more events than before: the share of bad ones in the long windows is soon that of the moment.
    live.until(all_fired, FIRES_S, 10_000, trouble=True)
    alerts = mimir.get("alerts")["alerts"]
    budgets = {
        one["metric"]["slo"]: float(one["value"][1]) for one in mimir.get("query?query=slo:error_budget:left")["result"]
    }
    live.until(lambda: not mimir.firing() and ended(heard), CLEARS_S, 10_000_000, trouble=False)
    return Story(rules, quiet, fired, mimir.firing(), alerts, budgets, set(heard.told))


@dataclass
class Live:
    """Time that passes, with a sample of each series every other second."""

    mimir: Mimir
    world: World
    last: float

    def until(self, over: Callable[[], bool], deadline_s: float, pace: float, *, trouble: bool) -> None:
        """Go on until it is over; at the deadline too: what is missing is for the tests to say."""
        end = time.monotonic() + deadline_s
        while time.monotonic() < end and not over():
            at = now()
            if at > self.last:
                self.mimir.push(self.world.step(at - self.last, pace, trouble=trouble), at)
                self.last = at
            time.sleep(0.5)


def evaluated_since(mimir: Mimir, moment: float) -> bool:
    """Say whether each rule was evaluated after a moment."""
    found = mimir.rules()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))
    return bool(found) and all(rule["lastEvaluation"] > stamp for rule in found)


def ended(heard: Hook) -> bool:
    """Say whether the end of each alert was told that was told before."""
    firing = {name for name, status in heard.told if status == "firing"}
    return firing <= {name for name, status in heard.told if status == "resolved"}


pytestmark = pytest.mark.timeout(600)


@needs_mimir
def test_every_rule_is_loaded_and_evaluated(story: Story) -> None:
    """None is left out, none ends in an error."""
    wanted = [rule.record or rule.alert for group in groups(WORKSHOP) for rule in group.rules]
    assert sorted(rule["name"] for rule in story.rules) == sorted(wanted)
    assert [(rule["name"], rule["lastError"]) for rule in story.rules if rule["health"] != "ok"] == []


@needs_mimir
def test_nothing_fires_while_all_is_well(story: Story) -> None:
    """After a quarter of an hour of good requests and fresh messages."""
    assert story.quiet == set()


@needs_mimir
@pytest.mark.parametrize("alert", ALERTS, ids="-".join)
def test_each_alert_fires_in_its_trouble_and_clears_after_it(story: Story, alert: tuple[str, str]) -> None:
    """Each severity by itself."""
    assert alert in story.fired
    assert alert not in story.left


@needs_mimir
def test_an_alert_that_fires_says_what_it_is_and_where_to_read_on(story: Story) -> None:
    """The templates are filled in, the value and the address of Grafana among them."""
    for one in story.annotations:
        told = one["annotations"]
        assert told["summary"].endswith(".")
        assert "{{" not in told["summary"] + told["runbook_url"]
        assert told["runbook_url"].startswith("http://127.0.0.1:3000/d/mythical-runbooks/"), told


@needs_mimir
def test_the_trouble_costs_budget(story: Story) -> None:
    """Half of the events were bad, five times what may be: less than nothing is left."""
    assert set(story.budgets) == {"api-availability", "api-latency", "recording-freshness"}
    assert all(left < 0 for left in story.budgets.values()), story.budgets


@needs_mimir
def test_whoever_wants_to_hear_is_told_of_begin_and_end(story: Story) -> None:
    """By the webhook of the Alertmanager."""
    names = {name for name, _ in ALERTS}
    assert {name for name, status in story.told if status == "firing"} == names
    assert {name for name, status in story.told if status == "resolved"} == names


@needs_mimirtool
@pytest.mark.parametrize("scale", [scale.name for scale in SCALES])
def test_mimirs_own_tool_finds_nothing_wrong(scale: str) -> None:
    """Both scales are rules as Mimir takes them."""
    assert TOOL
    for path in sorted(Path(FOLDER / "rules" / scale).rglob("*.yaml")):
        found = subprocess.run([TOOL, "rules", "check", str(path)], capture_output=True, text=True, check=False)  # noqa: S603
        assert found.returncode == 0, found.stderr
