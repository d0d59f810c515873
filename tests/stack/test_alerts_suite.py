"""The three services, Alloy and Mimir as they are: nothing fires by default, and each trouble fires its alert.

Takes some twenty minutes, most of them waiting: by default nothing may fire for longer than two waves of the requester,
and what waited in the queue has to be recorded before messages are fresh again. ALERTS_SUITE=1 asks for it.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest

from common import faults
from local.ports import LOOPBACK, free_port
from local.postgres import Postgres
from local.rabbitmq import RabbitMQ
from tests.integration.service_support import (
    Fleet,
    broker_settings,
    database_settings,
    fleet,
)
from tests.stack import alloy_running, mimir_running
from tests.stack.alloy_running import needs_alloy
from tests.stack.loki_sink import listening
from tests.stack.mimir_running import Mimir, needs_mimir
from workshop.switches import Switches

pytestmark = [
    needs_mimir,
    needs_alloy,
    pytest.mark.timeout(3000),
    pytest.mark.skipif("ALERTS_SUITE" not in os.environ, reason="it takes twenty minutes: ALERTS_SUITE=1 asks for it"),
]

# Two waves of the requester, of 155 s each.
QUIET_S = 330.0
FIRES_S = 420.0
CLEARS_S = 600.0
FAULTS = {faults.NULL_NAME: 1, faults.SLOW_QUERY: 2, faults.SLOW_CONSUMER: 10, faults.POISON_MESSAGES: 0.02}

Alert = tuple[str, str]


class Broker(RabbitMQ):
    """A broker that tells of its queues, as that of the stack does."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.metrics_port = free_port()
        self._own = folder

    def _write_configuration(self) -> None:
        super()._write_configuration()
        (self._own / "enabled_plugins").write_text("[rabbitmq_prometheus].\n")
        with (self._own / "rabbitmq.conf").open("a") as file:
            file.write(f"prometheus.tcp.ip = {LOOPBACK}\nprometheus.tcp.port = {self.metrics_port}\n")


@dataclass
class Suite:
    """What runs, and what was seen of it."""

    mimir: Mimir
    services: Fleet
    settings: dict[str, dict[str, str]]
    profiles: dict[str, str]

    def __post_init__(self) -> None:
        self._now = {name: self.services.launch(name, **told) for name, told in self.settings.items()}
        self.services.ready()

    @property
    def switches(self) -> Switches:
        """The switches of the planted faults."""
        return Switches({name: service.base_url for name, service in self._now.items()})

    def stop(self, name: str) -> None:
        """Stop a service."""
        assert self._now[name].stop() == 0

    def start(self, name: str, **told: str) -> None:
        """Start it again, and tell it more than before."""
        self._now[name] = self.services.start(name, **self.settings[name] | told)

    def again(self, name: str, **told: str) -> None:
        """Stop it and start it again."""
        self.stop(name)
        self.start(name, **told)

    def see(self, what: str) -> None:
        """Print what Mimir says now: shown when a test fails, and by pytest -s."""
        asked = {
            "budget left": "slo:error_budget:left",
            "burn rate": "slo:burn_rate:ratio",
            "p99 of ages": "histogram_quantile(0.99, sum by (le) (rate(mythical_message_age_seconds_bucket[5m])))",
            "waiting": 'rabbitmq_detailed_queue_messages_ready{queue="messages"}',
        }
        for name, query in asked.items():
            for one in self.mimir.get(f"query?query={quote(query)}")["result"]:
                labels = " ".join(one["metric"].get(key, "") for key in ("slo", "window"))
                print(f"{what}: {name} {labels} {float(one['value'][1]):.3g}")  # noqa: T201 - said above
        print(f"{what}: firing {sorted(self.mimir.firing())}", flush=True)  # noqa: T201


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """Run the suite with the faults that it has by default."""
    folder = tmp_path_factory.mktemp("suite")
    servers = Path(tempfile.mkdtemp(prefix="mythical-beasts-alerts-", dir="/var/tmp"))
    servers.chmod(0o711)
    with ExitStack() as until_the_end:
        until_the_end.callback(shutil.rmtree, servers, ignore_errors=True)
        postgres = until_the_end.enter_context(Postgres(servers / "postgres"))
        rabbitmq = until_the_end.enter_context(Broker(servers / "rabbitmq"))
        loki = until_the_end.enter_context(listening())
        mimir = until_the_end.enter_context(mimir_running.running(folder))
        told = alloy_running.environ(folder, logs=loki.port, ALLOY_RABBITMQ=f"{LOOPBACK}:{rabbitmq.metrics_port}")
        endpoints = Path(told["ALLOY_ENDPOINTS"])
        mended = json.loads(endpoints.read_text()) | {"metrics": {"url": f"{mimir.base}/api/v1/push"}}
        endpoints.write_text(json.dumps(mended))
        until_the_end.enter_context(alloy_running.running(folder, told))
        telling = {
            "OTEL_TRACES_EXPORTER": "none",
            "TRACING_COLLECTOR_HOST": LOOPBACK,
            "TRACING_COLLECTOR_PORT": told["ALLOY_OTLP_GRPC"].rpartition(":")[2],
            "LOGS_TARGET": f"http://{LOOPBACK}:{told['ALLOY_LOKI_PORT']}/loki/api/v1/push",
            "PROFILE_COLLECTOR_HOST": "",
        }
        services = until_the_end.enter_context(fleet(folder, telling, {"NAMESPACE": "production"}))
        server = database_settings(postgres) | {"HTTP_PORT": str(free_port())}
        broker = broker_settings(rabbitmq)
        settings = {
            "server": server,
            "recorder": broker,
            "requester": broker | {"MYTHICAL_SERVER_HOST_PORT": f"{LOOPBACK}:{server['HTTP_PORT']}"},
        }
        profiles = {"PROFILE_COLLECTOR_HOST": LOOPBACK, "PROFILE_COLLECTOR_PORT": told["ALLOY_PYROSCOPE_PORT"]}
        yield Suite(mimir, services, settings, profiles)


def until(over: Callable[[], bool], deadline_s: float) -> bool:
    """Say whether it was over before the deadline."""
    end = time.monotonic() + deadline_s
    while not over():
        if time.monotonic() > end:
            return False
        time.sleep(1)
    return True


@dataclass
class Story:
    """Which alerts fired in each part, and after how many seconds each did for the first time."""

    quiet: dict[Alert, float] = field(default_factory=dict)
    trouble: dict[Alert, float] = field(default_factory=dict)
    silence: dict[Alert, float] = field(default_factory=dict)
    left: set[Alert] = field(default_factory=set)


PAGES = {("ApiErrorBudgetBurn", "page"), ("ApiLatencyBudgetBurn", "page"), ("RecordingFreshnessBudgetBurn", "page")}
TROUBLES = PAGES | {("DeadLettersGrowing", "ticket"), ("AlloyDropping", "ticket")}
SILENCES = {("NothingRecorded", "page"), ("TelemetryMissing", "page")}


@pytest.fixture(scope="module")
def story(suite: Suite) -> Story:
    """Live through it: as it is by default, in trouble, with a recorder that is gone, and as by default again."""
    told = Story()

    def watch(into: dict[Alert, float], deadline_s: float, wanted: set[Alert] | None) -> None:
        begun = time.monotonic()

        def all_there() -> bool:
            for alert in suite.mimir.firing():
                into.setdefault(alert, round(time.monotonic() - begun))
            return wanted is not None and into.keys() >= wanted

        until(all_there, deadline_s)

    watch(told.quiet, QUIET_S, None)
    suite.see("by default")
    # Nobody takes profiles behind Alloy here: that Pyroscope is away.
    suite.again("server", **suite.profiles)
    for fault, strength in FAULTS.items():
        suite.switches.set(fault, strength, FIRES_S)
    watch(told.trouble, FIRES_S, TROUBLES)
    suite.see("in trouble")
    suite.stop("recorder")
    watch(told.silence, FIRES_S, SILENCES)
    suite.see("in silence")
    suite.again("server")
    suite.start("recorder", RECORDER_CONCURRENCY="64")
    suite.switches.clear()
    begun = time.monotonic()
    until(lambda: not suite.mimir.firing(), CLEARS_S)
    suite.see(f"{time.monotonic() - begun:.0f} s afterwards")
    told.left = suite.mimir.firing()
    print(told, flush=True)  # noqa: T201 - shown when a test fails, and by pytest -s
    return told


def test_nothing_fires_by_default(story: Story) -> None:
    """With the planted faults at the strength that they have when nobody says anything."""
    assert story.quiet == {}


@pytest.mark.parametrize("alert", sorted(TROUBLES), ids="-".join)
def test_a_planted_fault_or_its_like_fires_its_alert(story: Story, alert: Alert) -> None:
    """Null names, slow queries, a slow consumer, poison messages, and a back end that is away."""
    assert alert in story.trouble, story.trouble


@pytest.mark.parametrize("alert", sorted(SILENCES), ids="-".join)
def test_a_recorder_that_is_gone_is_missed(story: Story, alert: Alert) -> None:
    """By its messages, which wait, and by its telemetry."""
    assert alert in story.silence, story.silence


def test_each_alert_clears_when_its_cause_is_mended(story: Story) -> None:
    """The last are those whose short window is three minutes, and whose messages have waited longest."""
    assert story.left == set()
