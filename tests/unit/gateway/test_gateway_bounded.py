"""The memory of the gateway is bounded: it holds no more objects after twice as many requests."""

import dataclasses
import gc
import json
import os
import platform
import subprocess
import sys
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from local.gateway.forward import Forwarder
from local.gateway.http_error import HttpError
from local.gateway.limits import Limits
from local.gateway.pprof import PprofReader
from local.gateway.receive_loki import LokiReceiver
from local.gateway.receive_otlp import REQUESTS, OtlpReceiver
from local.gateway.records import LONGEST_NAME, LogLine
from local.gateway.telemetry_store import TelemetryStore
from local.gateway.web import Request
from tests.unit.gateway.test_gateway_otlp import metrics_request
from tests.unit.gateway.test_gateway_pprof import pprof, push

LIMITS = dataclasses.replace(Limits(), spans=40, lines=40, series=10, profiles=10, names=4, forward_items=50)
# After this many rounds each structure is full, including one that gets one entry per round.
ROUNDS = 60
# Objects that all programs share, and numbers, of which small ones are one object.
SHARED = (ModuleType, type, FunctionType, BuiltinFunctionType, int, float)


def spans(number: int) -> bytes:
    """Return a request of one service: a call with its child, a child without a parent, and a message."""
    request = ExportTraceServiceRequest()
    of_resource = request.resource_spans.add()
    name = KeyValue(key="service.name", value=AnyValue(string_value=f"service-{number:06}"))
    of_resource.resource.attributes.append(name)
    kinds = (Span.SPAN_KIND_CLIENT, Span.SPAN_KIND_SERVER, Span.SPAN_KIND_SERVER, Span.SPAN_KIND_PRODUCER)
    for place, kind in enumerate(kinds):
        of_resource.scope_spans.add().spans.add(
            trace_id=number.to_bytes(16, "big"),
            span_id=(10 * number + place).to_bytes(8, "big"),
            parent_span_id=(10 * number + (0 if place == 1 else 9)).to_bytes(8, "big"),
            name=f"span {number:06}",
            kind=kind,
            attributes=[KeyValue(key="messaging.system", value=AnyValue(string_value=f"broker-{number:06}"))],
        )
    return request.SerializeToString()


class Gateway:
    """The store, the receivers, and a forwarder without a thread; the clock does not advance."""

    def __init__(self) -> None:
        self.window = TelemetryStore(LIMITS, lambda: 1000.0)
        self.reader = PprofReader(1 << 20)
        self.forwarder = Forwarder("http://127.0.0.1:1", LIMITS, lambda: 1000.0)
        self.otlp = OtlpReceiver(self.window, self.forwarder.request, self.forwarder.remember_resource)
        self.loki = LokiReceiver(self.window, 1 << 20, self.forwarder.lines).routes()[0]

    def take(self, number: int) -> None:
        """Receive one body of each kind, with new values in every field."""
        self.otlp.take("/v1/traces", spans(number))
        metric = Metric(name=f"metric_{number:06}")
        metric.gauge.data_points.add(as_int=number)
        self.otlp.take("/v1/metrics", metrics_request(metric, f"service-{number:06}"))
        stream = {"stream": {"job": f"job-{number:06}"}, "values": [["1", f"line {number:06}", {"a": f"{number:06}"}]]}
        headers: Any = {"Content-Type": "application/json"}
        self.loki.handler(Request(headers, {}, (), json.dumps({"streams": [stream]}).encode()))
        push(self.window, self.reader, pprof([(["main"], 1, f"{number:016x}")]), f"service-{number:06}")


def held(*roots: object) -> dict[str, int]:
    """Count the objects of each type that can be reached from `roots`."""
    seen: set[int] = set()
    found: dict[str, int] = {}
    left = list(roots)
    while left:
        one = left.pop()
        if id(one) in seen or isinstance(one, SHARED):
            continue
        seen.add(id(one))
        found[type(one).__name__] = found.get(type(one).__name__, 0) + 1
        left.extend(gc.get_referents(one))
    return found


def test_twice_as_many_requests_leave_no_more_objects() -> None:
    """Spans, traces, hops, waiting children, lines, series, profiles, names, and the forwarding queue are bounded.

    Every object that can be reached from them is counted, so this holds for structures that are added later too.
    """
    gateway = Gateway()
    counts = []
    for first in (1000, 2000):
        for number in range(first, first + ROUNDS):
            gateway.take(number)
        counts.append(held(gateway.window, gateway.forwarder))
    assert counts[0]["SpanRecord"] == LIMITS.spans
    assert counts[0]["ProfileRecord"] == LIMITS.profiles
    assert counts[1] == counts[0]


def test_the_forwarder_drops_the_oldest_item() -> None:
    """This holds across kinds: if spans fill the queue, a new line replaces a span, and vice versa."""
    clock = iter(range(1000))
    forwarder = Forwarder("http://127.0.0.1:1", LIMITS, lambda: float(next(clock)))
    line = LogLine(1, "mythical-server", {}, "text", {}, {}, "", "", "loki")
    for number in range(LIMITS.forward_items):
        forwarder.request("/v1/traces", b"span", 1)
        assert forwarder.figures() == {"sent": 0, "failed": 0, "dropped": 0, "waiting": number + 1}
    forwarder.lines([line])
    assert (len(forwarder._requests), len(forwarder._lines)) == (LIMITS.forward_items - 1, 1)
    for _ in range(LIMITS.forward_items):
        forwarder.request("/v1/traces", b"span", 1)
    assert (len(forwarder._requests), len(forwarder._lines)) == (LIMITS.forward_items, 0)
    assert forwarder.figures()["dropped"] == LIMITS.forward_items + 1


def test_the_window_is_full_before_the_soak_compares() -> None:
    """Each of three services sends a profile every ten seconds; filling a larger window would take too long."""
    assert Limits().profiles / 3 * 10 <= 6 * 60


def test_the_size_of_a_profile_includes_its_span_ids() -> None:
    """A profile of many spans has an index of their IDs, which may be larger than the profile."""
    gateway = Gateway()
    raw = pprof([(["main"], 1, f"{number:016x}") for number in range(100)])
    push(gateway.window, gateway.reader, raw)
    assert gateway.window.summary()["memory"]["profiles"]["bytes"] > len(raw) + 100 * 16


def described(number: int, length: int, path: str) -> bytes:
    """Return a request with one span, point, or record of a service with a long name and a large resource."""
    request = REQUESTS[path]()
    of_resource = getattr(request, request.DESCRIPTOR.fields[0].name).add()
    for key in ("service.name", "filler"):
        value = AnyValue(string_value=f"{number:06}" + "x" * (length // 2))
        of_resource.resource.attributes.append(KeyValue(key=key, value=value))
    if path == "/v1/traces":
        of_resource.scope_spans.add().spans.add(trace_id=b"t" * 16, span_id=number.to_bytes(8, "big"))
    elif path == "/v1/logs":
        of_resource.scope_logs.add().log_records.add(time_unix_nano=number)
    else:
        of_resource.scope_metrics.add().metrics.add(name="m").gauge.data_points.add(as_int=number)
    encoded: bytes = request.SerializeToString()
    return encoded


@pytest.mark.parametrize(("path", "kind"), [("/v1/traces", "spans"), ("/v1/logs", "lines"), ("/v1/metrics", "series")])
def test_the_size_of_an_item_includes_its_resource(path: str, kind: str) -> None:
    """A small span keeps its large resource in memory, so the limit in bytes includes both."""
    window = TelemetryStore(dataclasses.replace(Limits(), span_bytes=200_000, line_bytes=200_000, series_bytes=200_000))
    otlp = OtlpReceiver(window, lambda *_: None, lambda *_: None)
    for number in range(20):
        otlp.take(path, described(number, 50_000, path))
    summary = window.summary()
    assert 0 < summary["memory"][kind]["held"] <= 4
    assert max(len(cell["service"]) for cell in summary["cells"]) == LONGEST_NAME


@pytest.mark.parametrize("path", ["/v1/traces", "/v1/logs", "/v1/metrics"])
def test_a_request_with_a_resource_that_is_too_large_is_rejected(path: str) -> None:
    """The resource would be kept outside the window; no part of a rejected request is stored."""
    window = TelemetryStore(Limits())
    otlp = OtlpReceiver(window, lambda *_: None, lambda *_: None)
    with pytest.raises(HttpError, match="resource") as rejection:
        otlp.take(path, described(1, 100, path) + described(2, 100_000, path))
    assert rejection.value.status == 413
    assert window.summary()["cells"] == []


def test_long_names_are_truncated() -> None:
    """Names of services in Loki's labels and of brokers are kept for as long as the gateway runs."""
    gateway = Gateway()
    body = json.dumps({"streams": [{"stream": {"job": "j" * 9000}, "values": [["1", "x"]]}]}).encode()
    headers: Any = {"Content-Type": "application/json"}
    gateway.loki.handler(Request(headers, {}, (), body))
    broker = KeyValue(key="messaging.system", value=AnyValue(string_value="b" * 9000))
    gateway.window.add_spans("s", {}, "", [Span(kind=Span.SPAN_KIND_PRODUCER, attributes=[broker])])
    summary = gateway.window.summary()
    assert max(len(cell["service"]) for cell in summary["cells"]) == LONGEST_NAME
    assert max(len(hop["to"]) for hop in summary["hops"]) == LONGEST_NAME


def test_the_size_of_a_profile_includes_its_labels() -> None:
    """They are stored with it and may be as long as a body."""
    gateway = Gateway()
    push(gateway.window, gateway.reader, pprof([(["main"], 1, "")]), "s" * 100_000)
    assert gateway.window.summary()["memory"]["profiles"]["bytes"] > 100_000


THREADS_ALLOCATE = """
import ctypes, sys, threading
from local.gateway.allocator import share_one_arena
if sys.argv[1] == "one":
    assert share_one_arena()
libc = ctypes.CDLL(None)
ready = threading.Barrier(5)
def allocate():
    libc.malloc(1000)
    ready.wait()
    ready.wait()
for _ in range(4):
    threading.Thread(target=allocate).start()
ready.wait()
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
ready.wait()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="arenas are glibc's")
def test_threads_share_one_arena() -> None:
    """Otherwise, glibc would create an arena for each thread."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_"))}

    def arenas(how: str) -> int:
        command = [sys.executable, "-c", THREADS_ALLOCATE, how]
        output = subprocess.run(command, check=True, capture_output=True, env=environ).stdout  # noqa: S603 - a constant program
        return output.count(b"<heap nr=")  # malloc_info(3)

    assert (arenas("own"), arenas("one")) == (5, 1)
