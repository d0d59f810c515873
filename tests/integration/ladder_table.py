"""What arrives from the services on each rung of INSTRUMENTATION: the tables of the page, and a check for each row."""

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.seams.tree import ROOT, rows, sections

Json = dict[str, Any]

REQUESTER, SERVER, RECORDER = "mythical-requester", "mythical-server", "mythical-recorder"
RUNGS = ("off", "ebpf", "zero-code", "stock", "fast")
PAGE = dict(sections((ROOT / "docs/instrumentation-ladder.md").read_text(encoding="utf-8")))
DOCUMENTED = {row["What arrives"]: row for row in rows(PAGE["Telemetry by rung"])}
COMBINATIONS = [tuple(row.values()) for row in rows(PAGE["Traces across rungs"])]

MIN_COUNT = 30
HOST_OF_CALLER = "chosen.by.the.caller:80"


@dataclass
class Received:
    """All telemetry of three services, received until they have stopped, and the /metrics of the server."""

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


def cell(what: str, got: Received) -> str:
    """Return what the page's table must have in this row for the received telemetry."""
    result = CHECKS[what](got)
    return {True: "yes", False: "no"}[result] if isinstance(result, bool) else str(result)


def assert_shapes(documented: str, shapes: Counter[str]) -> None:
    """Raise AssertionError unless there are enough traces of each documented shape, and none is larger."""
    expected = [each.strip("`") for each in documented.split("; ")]
    assert all(shapes[each] >= MIN_COUNT / 3 for each in expected), shapes
    # Larger traces would be more complete than the page documents.
    most = max(len(each.split(", ")) for each in expected)
    assert all(len(each.split(", ")) <= most for each in shapes), shapes
