"""The real Mimir loads the rules; each alert fires during its incident and clears afterwards."""

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
    Json,
    Mimir,
    Series,
    Webhook,
    needs_mimir,
    needs_mimirtool,
    now,
    running,
    series,
    webhook,
)

ALERTS = sorted(
    {(rule.alert, rule.labels["severity"]) for group in groups(WORKSHOP) for rule in group.rules if rule.alert}
)
# The longest wait is for missing telemetry: a window of 60 s, and then 90 s.
FIRES_S, CLEARS_S = 240.0, 180.0
STEP_S, HISTORY_S = 5, 17 * 60

SERVICES = ("mythical-requester", "mythical-server", "mythical-recorder", "mythical-frontend")
REQUESTS = "http_client_request_duration_seconds"
AGES = "mythical_message_age_seconds"


@dataclass
class SimulatedSuite:
    """The metrics of a suite: counters that grow by `pace` events a second, with or without an incident."""

    counters: dict[Series, float] = field(default_factory=dict)

    def step(self, seconds: float, pace: float, *, incident: bool) -> dict[Series, float]:
        """Advance by `seconds`, and return the values of all series."""
        client = {"service": "mythical-requester", "server_address": "mythical-server"}
        failed = pace * 0.5 if incident else 0.0
        self._grow(series(f"{REQUESTS}_count", **client, error_type="500"), failed * seconds)
        # Half of the successful requests are slow.
        succeeded = pace - failed
        self._histogram(REQUESTS, client, "0.25", succeeded * seconds, succeeded * seconds * 0.5 if incident else 0.0)
        recorder = {"service": "mythical-recorder"}
        self._histogram(AGES, recorder, "60", pace * seconds, pace * seconds * 0.5 if incident else 0.0)
        # Nothing is recorded in the incident. A real suite would not record old messages at the same time, but the
        # rules are independent of each other.
        self._grow(series("mythical_messages_recorded_total", **recorder), 0.0 if incident else pace * seconds)
        dead = series("mythical_queue_messages", queue="messages.dead")
        self._grow(dead, pace * seconds if incident else 0.0)
        for name in (
            "otelcol_exporter_send_failed_spans_total",
            "otelcol_exporter_enqueue_failed_spans_total",
            "prometheus_remote_storage_samples_failed_total",
            "loki_write_dropped_entries_total",
            "pyroscope_write_dropped_profiles_total",
        ):
            self._grow(series(name, service="alloy"), pace * seconds if incident else 0.0)
        gauges = {series("mythical_queue_messages", queue="messages"): 40.0}
        active = SERVICES[1:] if incident else SERVICES
        for service in active:
            self._grow(series("process_cpu_time_seconds_total", service=service), seconds)
        silent = {series("process_cpu_time_seconds_total", service=service) for service in set(SERVICES) - set(active)}
        return gauges | {key: value for key, value in self.counters.items() if key not in silent}

    def _grow(self, which: Series, by: float) -> None:
        self.counters[which] = self.counters.get(which, 0.0) + by

    def _histogram(self, name: str, labels: dict[str, str], le: str, events: float, beyond: float) -> None:
        self._grow(series(f"{name}_count", **labels), events)
        self._grow(series(f"{name}_bucket", **labels, le=le), events - beyond)


@dataclass
class Observed:
    """The observed rules and alerts: after a history without incidents, during an incident, and after it."""

    rules: list[Json]
    firing_before: set[tuple[str, str]]
    fired: set[tuple[str, str]]
    firing_after: set[tuple[str, str]]
    annotations: list[Json]
    budgets: dict[str, float]
    received: set[tuple[str, str]]


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    """Simulate an incident that affects every alert at once, with the rules of the workshop."""
    folder = tmp_path_factory.mktemp("mimir")
    with webhook() as receiver:
        configuration = (FOLDER / "alertmanager/webhook.yaml").read_text(encoding="utf-8")
        (folder / "own.yaml").write_text(
            configuration.replace("host.docker.internal:5001", f"127.0.0.1:{receiver.port}"), encoding="utf-8"
        )
        with running(folder, MIMIR_ALERTMANAGER=str(folder), ALERTS_TO="own") as mimir:
            yield simulate(mimir, receiver)


def simulate(mimir: Mimir, receiver: Webhook) -> Observed:
    """Push a history without incidents, then an incident, then its end; return what Mimir reported."""
    suite = SimulatedSuite()
    start = now()
    for at in range(int(start) - HISTORY_S, int(start), STEP_S):
        mimir.push(suite.step(STEP_S, 10, incident=False), at)
    live = LivePush(mimir, suite, start)
    # Every rule is evaluated at least once with the whole history.
    live.until(lambda: evaluated_since(mimir, start + 15), FIRES_S, 10, incident=False)
    rules, firing_before = mimir.rules(), mimir.firing()
    fired: set[tuple[str, str]] = set()

    def all_fired() -> bool:
        fired.update(mimir.firing())
        return fired >= set(ALERTS)

    # Many more events than before, so that the error rate in the long windows soon equals the current one.
    live.until(all_fired, FIRES_S, 10_000, incident=True)
    alerts = mimir.get("alerts")["alerts"]
    budgets = {
        one["metric"]["slo"]: float(one["value"][1]) for one in mimir.get("query?query=slo:error_budget:left")["result"]
    }
    live.until(lambda: not mimir.firing() and all_resolved(receiver), CLEARS_S, 10_000_000, incident=False)
    return Observed(rules, firing_before, fired, mimir.firing(), alerts, budgets, set(receiver.received))


@dataclass
class LivePush:
    """Push a sample of each series about every second."""

    mimir: Mimir
    suite: SimulatedSuite
    last: float

    def until(self, condition: Callable[[], bool], deadline_s: float, pace: float, *, incident: bool) -> None:
        """Push samples until the condition is true or the deadline has passed; the tests report what is missing."""
        end = time.monotonic() + deadline_s
        while time.monotonic() < end and not condition():
            at = now()
            if at > self.last:
                self.mimir.push(self.suite.step(at - self.last, pace, incident=incident), at)
                self.last = at
            time.sleep(0.5)


def evaluated_since(mimir: Mimir, moment: float) -> bool:
    """Return whether each rule was evaluated after a time."""
    found = mimir.rules()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))
    return bool(found) and all(rule["lastEvaluation"] > stamp for rule in found)


def all_resolved(receiver: Webhook) -> bool:
    """Return whether the receiver got the resolution of each alert that it got."""
    firing = {name for name, status in receiver.received if status == "firing"}
    return firing <= {name for name, status in receiver.received if status == "resolved"}


pytestmark = pytest.mark.timeout(600)


@needs_mimir
def test_every_rule_is_loaded_and_evaluated(observed: Observed) -> None:
    """Mimir has each rule, and no evaluation has an error."""
    expected = [rule.record or rule.alert for group in groups(WORKSHOP) for rule in group.rules]
    assert sorted(rule["name"] for rule in observed.rules) == sorted(expected)
    assert [(rule["name"], rule["lastError"]) for rule in observed.rules if rule["health"] != "ok"] == []


@needs_mimir
def test_no_alert_fires_without_an_incident(observed: Observed) -> None:
    """The history is about 17 minutes of successful requests and fresh messages."""
    assert observed.firing_before == set()


@needs_mimir
@pytest.mark.parametrize("alert", ALERTS, ids="-".join)
def test_each_alert_fires_in_its_incident_and_clears_afterwards(observed: Observed, alert: tuple[str, str]) -> None:
    """The rule holds for each severity of the alert."""
    assert alert in observed.fired
    assert alert not in observed.firing_after


@needs_mimir
def test_a_firing_alert_has_a_summary_and_a_link_to_its_runbook(observed: Observed) -> None:
    """The templates are rendered, including the value and Grafana's URL."""
    for one in observed.annotations:
        annotations = one["annotations"]
        assert annotations["summary"].endswith(".")
        assert "{{" not in annotations["summary"] + annotations["runbook_url"]
        assert annotations["runbook_url"].startswith("http://127.0.0.1:3000/d/mythical-runbooks/"), annotations


@needs_mimir
def test_an_incident_consumes_the_error_budget(observed: Observed) -> None:
    """Half of the events were bad, five times the objective's share, so the remaining budget is negative."""
    assert set(observed.budgets) == {"api-availability", "api-latency", "recording-freshness"}
    assert all(left < 0 for left in observed.budgets.values()), observed.budgets


@needs_mimir
def test_the_webhook_receives_firing_and_resolved_alerts(observed: Observed) -> None:
    """The Alertmanager sends both to its webhook."""
    names = {name for name, _ in ALERTS}
    assert {name for name, status in observed.received if status == "firing"} == names
    assert {name for name, status in observed.received if status == "resolved"} == names


@needs_mimirtool
@pytest.mark.parametrize("scale", [scale.name for scale in SCALES])
def test_mimirtool_accepts_the_rules(scale: str) -> None:
    """The rules of both scales are valid."""
    assert TOOL
    for path in sorted(Path(FOLDER / "rules" / scale).rglob("*.yaml")):
        checked = subprocess.run([TOOL, "rules", "check", str(path)], capture_output=True, text=True, check=False)  # noqa: S603
        assert checked.returncode == 0, checked.stderr
