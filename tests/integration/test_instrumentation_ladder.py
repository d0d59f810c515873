"""The gateway receives from each rung of INSTRUMENTATION what docs/instrumentation-ladder.md documents."""

import copy
import itertools
import os
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.ports import LOOPBACK, free_port
from local.processes.process import Process
from local.servers.postgres import Postgres
from local.servers.rabbitmq import RabbitMQ
from tests.integration.conftest import STOP_S, Gateway, Service, eventually
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
from tests.seams.tree import ROOT, rows, sections

Json = dict[str, Any]

REQUESTER, SERVER, RECORDER = "mythical-requester", "mythical-server", "mythical-recorder"
RUNGS = ("off", "ebpf", "zero-code", "stock", "fast")
PAGE = dict(sections((ROOT / "docs/instrumentation-ladder.md").read_text(encoding="utf-8")))
DOCUMENTED = {row["What arrives"]: row for row in rows(PAGE["Telemetry by rung"])}
COMBINATIONS = [tuple(row.values()) for row in rows(PAGE["Traces across rungs"])]

BEYLA = shutil.which("beyla")
# Where the kernel has kprobes for Beyla's programs, and the types of its own data.
KPROBES, BTF = Path("/sys/bus/event_source/devices/kprobe"), Path("/sys/kernel/btf/vmlinux")
needs_beyla = pytest.mark.skipif(
    not (BEYLA and KPROBES.exists() and BTF.exists() and os.geteuid() == 0),
    reason="needs root, the program beyla on the PATH, and a kernel with kprobes and BTF",
)
CONFIG = yaml.safe_load((ROOT / "beyla/config.yaml").read_text(encoding="utf-8"))

MIN_COUNT = 30
HOST_OF_CALLER = "chosen.by.the.caller:80"


@dataclass
class Received:
    """All telemetry of a fleet at the gateway after the fleet has stopped, and the /metrics of its server."""

    spans: list[Json] = field(default_factory=list)
    metrics: list[Json] = field(default_factory=list)
    lines: list[Json] = field(default_factory=list)
    profiles: list[Json] = field(default_factory=list)
    exemplars: set[str] = field(default_factory=set)
    page: str = ""

    def spans_with(self, service: str, kind: str = "", **attributes: object) -> list[Json]:
        """Return the spans of a service and kind with these attributes; `__` stands for a dot, None for any value."""
        expected = {name.replace("__", "."): value for name, value in attributes.items()}
        return [
            span
            for span in self.spans
            if span["service"] == service
            and span["kind"] == (kind or span["kind"])
            and all(
                name in span["attributes"] and value in (None, span["attributes"][name])
                for name, value in expected.items()
            )
        ]

    def traces(self) -> list[list[Json]]:
        """Return the spans grouped by trace."""
        found = defaultdict(list)
        for span in self.spans:
            found[span["trace_id"]].append(span)
        return list(found.values())

    def shapes(self) -> Counter[str]:
        """Count the traces by shape."""
        return Counter(shape(trace) for trace in self.traces())

    def labels(self, name: str, service: str = SERVER) -> set[str]:
        """Return the labels of a metric; empty if the metric did not arrive."""
        return {
            label
            for metric in self.metrics
            if (metric["name"], metric["service"]) == (name, service)
            for point in metric["points"]
            for label in ["", *point["attributes"]]
        }

    def lines_with(self, text: str) -> list[Json]:
        """Return the log lines of an event."""
        return [line for line in self.lines if text in line["line"]]

    def note_exemplars(self, metrics: list[Json]) -> None:
        """Note which of the metrics have exemplars, since the next collection may have none."""
        self.exemplars |= {each["name"] for each in metrics for point in each["points"] if point.get("exemplars")}

    def has_child(self, child: list[Json], parent: list[Json]) -> bool:
        """Return whether a span of `child` has a parent in `parent`, in the same trace."""
        parents = {(span["trace_id"], span["span_id"]) for span in parent}
        return any((span["trace_id"], span["parent_span_id"]) in parents for span in child)


def shape(trace: list[Json]) -> str:
    """Return the services and kinds of a trace's spans, such as `requester CLIENT`, in alphabetical order."""
    return ", ".join(sorted(f"{span['service'].removeprefix('mythical-')} {span['kind']}" for span in trace))


def responses(got: Received, status: int) -> list[Json]:
    """Return the server's spans with this HTTP status, by the old or the new semantic conventions."""
    names = ("http.status_code", "http.response.status_code")
    return [
        span for span in got.spans_with(SERVER, "SERVER") if status in (span["attributes"].get(name) for name in names)
    ]


def statements(got: Received) -> list[Json]:
    """Return the spans of SQL statements."""
    names = {"db.statement", "db.system.name"}  # of the old and the new semantic conventions
    return [span for span in got.spans_with(SERVER, "CLIENT") if names & span["attributes"].keys()]


def failed(got: Received) -> list[Json]:
    """Return the spans of failed SQL statements."""
    return [span for span in statements(got) if span["status"]["code"] == "ERROR"]


def have_statement(got: Received) -> bool:
    """Return whether most requests have the span of a statement as a child."""
    requests = got.spans_with(SERVER, "SERVER")
    with_child = {(span["trace_id"], span["parent_span_id"]) for span in statements(got)}
    return sum((span["trace_id"], span["span_id"]) in with_child for span in requests) > len(requests) / 2


def request_span_count(got: Received) -> int:
    """Return the number of spans that most traces have which start with a request."""
    started_traces = {span["trace_id"] for span in got.spans_with(REQUESTER, "CLIENT") if not span["parent_span_id"]}
    counts = Counter(len(trace) for trace in got.traces() if trace[0]["trace_id"] in started_traces)
    return max(counts, key=lambda count: counts[count], default=0)


def with_ids(got: Received, text: str) -> bool:
    """Return whether all log lines of an event have a trace id."""
    return bool(got.lines_with(text)) and all(line["metadata"].get("trace_id") for line in got.lines_with(text))


# The name in the page's table, and the check. True is `yes` in the table, False is `no`.
CHECKS: dict[str, Callable[[Received], object]] = {
    "HTTP spans of client and server in one trace": lambda got: got.has_child(
        got.spans_with(SERVER, "SERVER"), got.spans_with(REQUESTER, "CLIENT")
    ),
    "`CLIENT` spans of one request": lambda got: max(
        (
            sum(span["service"] == REQUESTER and span["kind"] == "CLIENT" for span in trace)
            for trace in got.traces()
            if any(span["kind"] == "SERVER" and span["service"] == SERVER for span in trace)
        ),
        default=0,
    ),
    "a span's name is the route, not the path": lambda got: any(
        span["name"] == "POST /<beast>" for span in got.spans_with(SERVER, "SERVER")
    ),
    "a response of 500 is an error of the span": lambda got: any(
        span["status"]["code"] == "ERROR" for span in responses(got, 500)
    ),
    "`beast`": lambda got: bool(got.spans_with(SERVER, "SERVER", beast=None)),
    "`http.target` without the caller's text": lambda got: bool(
        got.spans_with(SERVER, "SERVER", http__target="/unknown", http__status_code=404)
    ),
    "`http.url`, as the caller sent it": lambda got: bool(got.spans_with(SERVER, "SERVER", http__url=None)),
    "`peer.service`": lambda got: bool(got.spans_with(REQUESTER, "CLIENT", peer__service=SERVER)),
    "a link to the request before": lambda got: any(span["links"] for span in got.spans_with(REQUESTER)),
    "spans of statements in the trace of the request": have_statement,
    "a statement's name has operation and table": lambda got: any(
        span["name"] == "INSERT unicorn" for span in statements(got)
    ),
    "a failed statement has its SQLSTATE": lambda got: any(
        span["attributes"].get("db.response.status_code") == "23502" for span in failed(got)
    ),
    "a failed statement has its stack trace": lambda got: any(span["events"] for span in failed(got)),
    "**values of a row** in the status of a failed statement": lambda got: any(
        "Failing row contains" in span["status"]["message"] for span in failed(got)
    ),
    "statements outside a request, each a trace": lambda got: any(
        not span["parent_span_id"] for span in statements(got)
    ),
    "spans of published messages": lambda got: bool(got.spans_with(REQUESTER, "PRODUCER")),
    "… in the trace of the request": lambda got: got.has_child(
        got.spans_with(REQUESTER, "PRODUCER"), got.spans_with(REQUESTER, "CLIENT")
    ),
    "spans of processed messages": lambda got: bool(got.spans_with(RECORDER, "CONSUMER")),
    "context over the queue": lambda got: got.has_child(
        got.spans_with(RECORDER, "CONSUMER"), got.spans_with(REQUESTER, "PRODUCER")
    ),
    "spans of health checks": lambda got: any("/readyz" in span["name"] for span in got.spans),
    "spans in most traces of a request": request_span_count,
    "`http.client.request.duration`": lambda got: bool(got.labels("http.client.request.duration", REQUESTER)),
    "`http.server.request.duration` by route": lambda got: "http.route" in got.labels("http.server.request.duration"),
    "exemplars on it": lambda got: "http.server.request.duration" in got.exemplars,
    "`mythical_request_times` by beast": lambda got: "beast" in got.labels("mythical_request_times"),
    "`db.client.operation.duration`": lambda got: bool(got.labels("db.client.operation.duration")),
    "… by table": lambda got: "db.collection.name" in got.labels("db.client.operation.duration"),
    "`db.client.connection.count`, of the pool": lambda got: bool(got.labels("db.client.connection.count")),
    "`messaging.*`, of the queue": lambda got: bool(got.labels("messaging.process.duration", RECORDER)),
    "`process.*`, of the process": lambda got: bool(got.labels("process.memory.usage")),
    "losses of the exporter": lambda got: bool(got.labels("otel.sdk.exporter.span.exported")),
    "**a label from the caller**: the `Host` header": lambda got: any(
        point["attributes"].get("http.host") == HOST_OF_CALLER for metric in got.metrics for point in metric["points"]
    ),
    "metrics at `/metrics`": lambda got: "target_info" in got.page,
    "log lines": lambda got: bool(got.lines_with("request served") and got.lines_with("message recorded")),
    "ids of the trace on the server's lines": lambda got: with_ids(got, "request served"),
    "… on the requester's and the recorder's": lambda got: (
        with_ids(got, "request made") and with_ids(got, "message recorded")
    ),
    "fields in the line": lambda got: bool(got.lines_with("endpoint=unicorn")),
    "label `beast`": lambda got: any("beast" in line["labels"] for line in got.lines),
    "profiles": lambda got: bool(got.profiles),
    "the profile of a span": lambda got: bool(got.spans_with(SERVER, "SERVER", pyroscope__profile__id=None)),
    "`service.namespace`": lambda got: any(span["resource"].get("service.namespace") for span in got.spans),
    "host and process": lambda got: any({"host.name", "process.pid"} <= span["resource"].keys() for span in got.spans),
}


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
    result = CHECKS[what](got)
    assert ({True: "yes", False: "no"}[result] if isinstance(result, bool) else str(result)) == DOCUMENTED[what][name]


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
    shapes = run(requester, server, recorder).shapes()
    for expected in documented.split("; "):
        assert shapes[expected.strip("`")] >= MIN_COUNT / 3, shapes
    # Larger traces would be more complete than the page documents.
    most = max(len(each.split(", ")) for each in documented.split("; "))
    assert all(len(each.split(", ")) <= most for each in itertools.islice(shapes, 1000)), shapes
