"""The gateway receives from each rung of INSTRUMENTATION what docs/instrumentation-ladder.md documents."""

import copy
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml

from local.ports import LOOPBACK, free_port
from local.processes.process import Process
from local.servers.postgres import Postgres
from local.servers.rabbitmq import RabbitMQ
from tests.integration.conftest import STOP_S, Gateway, Service, eventually
from tests.integration.ladder_table import (
    CHECKS,
    COMBINATIONS,
    DOCUMENTED,
    HOST_OF_CALLER,
    MIN_COUNT,
    RECORDER,
    REQUESTER,
    RUNGS,
    SERVER,
    Json,
    Received,
    assert_shapes,
    cell,
)
from tests.integration.service_support import (
    SILENT,
    Fleet,
    ask,
    broker_settings,
    clear_queues,
    database_settings,
    fleet,
    own,
    own_database,
    requests_to,
)
from tests.seams.tree import ROOT

BEYLA = shutil.which("beyla")
# Where the kernel has kprobes for Beyla's programs, and the types of its own data.
KPROBES, BTF = Path("/sys/bus/event_source/devices/kprobe"), Path("/sys/kernel/btf/vmlinux")
needs_beyla = pytest.mark.skipif(
    not (BEYLA and KPROBES.exists() and BTF.exists() and os.geteuid() == 0),
    reason="needs root, the program beyla on the PATH, and a kernel with kprobes and BTF",
)
CONFIG = yaml.safe_load((ROOT / "beyla/config.yaml").read_text(encoding="utf-8"))


class Run:
    """Starts the three services on their rungs, waits for enough telemetry, stops them, and queries the gateway."""

    def __init__(self, gateway: Gateway, postgres: Postgres, rabbitmq: RabbitMQ, folder: Path) -> None:
        self._gateway, self._postgres, self._rabbitmq, self._folder = gateway, postgres, rabbitmq, folder

    def __call__(self, requester: str, server: str, recorder: str, *, beyla: bool = False) -> Received:
        """Return the received telemetry; with Beyla's, if Beyla is to observe the services."""
        clear_queues(self._rabbitmq)
        got = Received()
        rungs = {
            "REQUESTER_INSTRUMENTATION": requester,
            "SERVER_INSTRUMENTATION": server,
            "RECORDER_INSTRUMENTATION": recorder,
        }
        with own_database(self._postgres) as name:
            settings = database_settings(self._postgres, name) | broker_settings(self._rabbitmq) | rungs
            with fleet(self._folder, self._gateway.settings, settings) as started, ExitStack() as stack:
                services = {
                    "server": started.launch("server", FAULT_NULL_NAME="0.5"),
                    "recorder": started.launch("recorder", FAULT_SLOW_PROCESSING="0"),
                }
                services["requester"] = started.launch(
                    "requester", **requests_to(services["server"]), REQUESTER_START="0", FAULT_SLOW_PUBLISH="0"
                )
                started.ready()
                if beyla:
                    stack.enter_context(self._observed(services, started.namespace))
                ask(services["server"].base_url, "/made/up", headers={"Host": HOST_OF_CALLER})
                ask(services["server"].base_url, "/readyz")
                eventually(
                    lambda: self._enough_seen(started, got) if beyla else self._enough(started, got, recorder, server),
                    what="enough requests",
                )
                got.page = ask(services["server"].base_url, "/metrics").text
            got.spans, got.metrics = (self._received(what, started.namespace) for what in ("spans", "metrics"))
            got.lines, got.profiles = (
                own(self._gateway.get(what, limit=20_000), started.namespace) for what in ("logs", "profiles")
            )
        return got

    @contextmanager
    def _observed(self, services: dict[str, Service], namespace: str) -> Iterator[None]:
        """Let Beyla observe these services, with the project's own configuration but for ports and namespace."""
        config = copy.deepcopy(CONFIG)
        named = {f"beyla-mythical-{name}": service for name, service in services.items()}
        config["discovery"]["instrument"] = [
            each | {"open_ports": named[each["name"]].port, "namespace": namespace}
            for each in config["discovery"]["instrument"]
            if each["name"] in named
        ]
        config["internal_metrics"]["prometheus"]["port"] = free_port()
        file = self._folder / "beyla.yaml"
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{LOOPBACK}:{self._gateway.ports['otlp_http']}"}
        beyla = Process(
            "beyla",
            [str(BEYLA), f"--config={file}"],
            log=self._folder / "beyla.log",
            record=self._folder / "beyla.pid",
            mark=str(file),
            environ=os.environ | endpoint | {"BEYLA_HOST_ID": "test"},
        )
        beyla.launch()
        try:
            seen = {SERVER, REQUESTER}
            eventually(
                lambda: seen <= {span["service"] for span in self._received("spans", namespace)},
                what=f"spans of {sorted(seen)}",
            )
            yield
        finally:
            beyla.stop(STOP_S)

    def _received(self, what: str, namespace: str) -> list[Json]:
        """Return the spans or metrics; Beyla's under the service's own name, so that the same checks apply."""
        found = own(self._gateway.get(what, limit=20_000), namespace)
        return [each | {"service": each["service"].removeprefix("beyla-")} for each in found]

    def _enough_seen(self, started: Fleet, got: Received) -> bool:
        """Return whether Beyla has seen enough requests, and exemplars, which arrive late, are received."""
        got.note_exemplars([each for each in self._received("metrics", started.namespace) if each["service"] == SERVER])
        spans = Counter(
            span["service"]
            for span in self._received("spans", started.namespace)
            if span["kind"] in ("CLIENT", "SERVER")
        )
        return "http.server.request.duration" in got.exemplars and min(spans[SERVER], spans[REQUESTER]) >= MIN_COUNT

    def _enough(self, started: Fleet, got: Received, recorder: str, server: str) -> bool:
        """Return whether enough messages are recorded, and exemplars, which arrive late, are received."""
        got.note_exemplars(own(self._gateway.get("metrics", service=SERVER), started.namespace))
        if server not in ("off", "ebpf") and "http.server.request.duration" not in got.exemplars:
            return False
        if recorder == "off":
            logs = (each.process.log.read_text(encoding="utf-8") for each in started.running)
            return any(text.count("message recorded") >= MIN_COUNT for text in logs)
        lines = own(self._gateway.get("logs", service=RECORDER, limit=2000), started.namespace)
        return sum("message recorded" in line["line"] for line in lines) >= MIN_COUNT


@pytest.fixture(scope="module")
def run(gateway: Gateway, postgres: Postgres, rabbitmq: RabbitMQ, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A function that runs services on rungs."""
    return Run(gateway, postgres, rabbitmq, tmp_path_factory.mktemp("services"))


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=needs_beyla) if name == "ebpf" else name for name in RUNGS]
)
def rung(request: pytest.FixtureRequest, run: Run) -> tuple[str, Received]:
    """A rung, and the telemetry received from the three services on it."""
    return request.param, run(request.param, request.param, request.param, beyla=request.param == "ebpf")


def test_the_pages_table_has_the_same_rows_as_the_checks() -> None:
    """Each row of the table has a check, and each check has a row."""
    assert list(DOCUMENTED) == list(CHECKS)


@pytest.mark.parametrize("what", CHECKS)
def test_a_rung_sends_what_the_page_documents(what: str, rung: tuple[str, Received]) -> None:
    """Telemetry with `yes` arrives, and telemetry with `no` doesn't."""
    name, got = rung
    assert cell(what, got) == DOCUMENTED[what][name]


def test_ebpf_without_beyla_sends_nothing(run: Run) -> None:
    """The service leaves instrumentation to Beyla."""
    got = run("ebpf", "ebpf", "off")
    assert [got.spans, got.metrics, got.lines, got.profiles] == [[], [], [], []]


# Start telemetry with the settings of the environment; the arguments are the packages that are found.
START = """
import os, sys
from common.core.env import Env
from common.telemetry import zero_code
from common.telemetry.settings import telemetry_settings
from common.telemetry.setup import start_telemetry

zero_code.entry_points = lambda group: sys.argv[1:]
start_telemetry(telemetry_settings(Env(os.environ), "mythical-server"), job="test").close()
"""


def started(*found: str, **environ: str) -> list[str]:
    """Start telemetry in a process; return its log lines without their times."""
    result = subprocess.run(  # noqa: S603 - constant arguments
        [sys.executable, "-c", START, *found],
        cwd=ROOT,
        env=os.environ | SILENT | environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return [line.partition(" ")[2] for line in result.stdout.splitlines()]


def test_zero_code_without_its_packages_is_off_and_logged() -> None:
    """The service starts without them."""
    missing, started_traces = started(SERVER_INSTRUMENTATION="zero-code")
    assert missing.startswith("level=warn reason=")
    assert missing.endswith('msg="zero-code instrumentation not available"')
    assert started_traces == 'level=info instrumentation=off msg="telemetry started"'


def test_the_deprecated_setting_works_and_logs_its_replacement() -> None:
    """The deprecated setting is TELEMETRY_LAYER; INSTRUMENTATION takes precedence."""
    deprecated, started_traces = started(TELEMETRY_LAYER="stock")
    assert deprecated == 'level=warn msg="TELEMETRY_LAYER is deprecated, set INSTRUMENTATION instead"'
    assert "instrumentation=stock" in started_traces
    assert "instrumentation=fast" in started(TELEMETRY_LAYER="stock", INSTRUMENTATION="fast")[1]


@pytest.mark.parametrize("combination", COMBINATIONS, ids=lambda combination: "-".join(combination[:3]))
def test_traces_across_rungs(combination: tuple[str, ...], run: Run) -> None:
    """With services on different rungs, traces have the shapes that the page documents, complete or broken."""
    requester, server, recorder, documented, _ = combination
    assert_shapes(documented, run(requester, server, recorder).shapes())
